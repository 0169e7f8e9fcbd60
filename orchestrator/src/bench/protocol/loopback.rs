//! Both sides as processes of this host, on 127.0.0.1.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pspd_model::spec::Name;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::plan::Plan;
use super::result::{Case, Results};
use crate::bench::result::host;
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::identity;
use crate::state::write_atomically;

/// What the server may take until it listens.
const START: Duration = Duration::from_secs(10);
const LISTENING: &str = "listening on ";

/// The program of both sides, and a folder for their certificates.
pub struct Loopback<'a> {
    pub program: &'a Path,
    pub folder: &'a Path,
}

impl Loopback<'_> {
    /// Measures; `cancel` ends the run.
    pub async fn measure(
        &self,
        plan: &Plan,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Results> {
        let cases = tokio::select! {
            cases = self.cases(plan, events) => cases?,
            // Both processes end as their handles are dropped.
            () = cancel.cancelled() => return Err(Cancelled::during("measuring protocols").into()),
        };
        let between = "Between two processes on loopback";
        Ok(Results::new(host(None), between, plan, cases))
    }

    async fn cases(&self, plan: &Plan, events: &Events) -> anyhow::Result<Vec<Case>> {
        let mut server = self.peer("server")?;
        // Its stdin is closed wherever this process ends.
        server.args(["serve", "--listen", "127.0.0.1:0", "--until-stdin-closes"]);
        let mut server = Process::start(server, self.program)?;
        let address = timeout(START, server.lines.next_line()).await;
        let address = address.context("the server did not listen in time")??;
        let Some(address) = address
            .as_deref()
            .and_then(|line| line.strip_prefix(LISTENING))
        else {
            bail!("the server did not start: {}", server.errors().await);
        };
        let mut caller = self.peer("caller")?;
        caller.args(plan.arguments(address, "server"));
        let mut caller = Process::start(caller, self.program)?;
        let mut said = Caller::new(events);
        while let Some(line) = caller.lines.next_line().await? {
            said.line(&line);
        }
        let status = caller.child.wait().await?;
        if !status.success() {
            bail!("the caller failed: {}", caller.errors().await);
        }
        said.results()
    }

    /// A side's command, with a certificate in its environment.
    fn peer(&self, name: &str) -> anyhow::Result<Command> {
        let certificate = identity::issue(self.folder, &Name::new(name)?)?;
        let mut command = Command::new(self.program);
        command.env_remove("RUST_BACKTRACE");
        for (variable, file, pem) in [
            ("PSPD_TLS_CA", "ca", &certificate.ca),
            ("PSPD_TLS_CERT", "cert", &certificate.certificate),
            ("PSPD_TLS_KEY", "key", &certificate.key),
        ] {
            let path = self.folder.join(format!("{name}-{file}.pem"));
            write_atomically(&path, pem.as_bytes(), 0o600)?;
            command.env(variable, path);
        }
        Ok(command)
    }
}

/// A process that is killed when this is dropped.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(mut command: Command, program: &Path) -> anyhow::Result<Process> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn();
        let mut child =
            child.with_context(|| format!("failed to start `{}`", program.display()))?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        Ok(Process {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// What a process that ended printed on stderr.
    async fn errors(mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What was read until an error is better than nothing.
            let _ = timeout(START, stderr.read_to_string(&mut text)).await;
        }
        text.trim().to_owned()
    }
}
