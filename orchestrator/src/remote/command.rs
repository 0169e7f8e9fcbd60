//! Runs a command of pspd on a host, with this process's terminal or pipes.

use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use pspd_model::hint::Hinted;
use pspd_model::spec::Name;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use super::program::Program;
use super::ssh::{FAILED, Ssh};
use crate::guest::shell_word;
use crate::other_hosts::Said;

/// The words of the command after the program.
pub(crate) struct Words {
    pub deployment: Name,
    /// The topology's file.
    pub file: &'static str,
    /// The host's name, where it is one of several.
    pub site: Option<Name>,
    pub words: Vec<String>,
    /// Whether the command reads what this process gets on its standard input.
    pub reads: bool,
    /// Whether its exit code is that of another program, in a guest or in the lab.
    pub foreign_code: bool,
}

impl Words {
    fn script(&self, program: &Program, tethered: bool) -> String {
        let mut line = vec![format!("--sent={}/{}", self.deployment, self.file)];
        line.extend(self.site.iter().map(|site| format!("--site={site}")));
        line.extend(tethered.then(|| "--tethered".to_owned()));
        line.extend(self.words.iter().cloned());
        let line: Vec<_> = line.iter().map(|word| shell_word(word)).collect();
        format!("exec {} {}", program.path, line.join(" "))
    }
}

/// Runs the command to its end, and returns its exit code. `cancel` interrupts it as Ctrl-C would.
pub(crate) async fn run(
    ssh: &Ssh,
    program: &Program,
    words: &Words,
    cancel: &CancellationToken,
) -> Result<i32> {
    let mut command = ssh.command();
    let on_terminal = stdin().is_terminal() && stdout().is_terminal() && stderr().is_terminal();
    // No signal crosses a connection without a terminal, but the end of the input does.
    let tethered = !on_terminal && !words.reads && !words.foreign_code;
    if on_terminal {
        // The terminal there gets each key, Ctrl-C included.
        command.arg("-t");
    } else {
        command.arg("-T");
    }
    command.args(ssh.words_of(&words.script(program, tethered)));
    if tethered {
        command.stdin(Stdio::piped());
        // A Ctrl-C here must not end the connection before the command there has undone what it did.
        command.process_group(0);
    } else if !on_terminal && !words.reads {
        command.stdin(Stdio::null());
    }
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .context("failed to run `ssh`")?;
    let input = child.stdin.take();
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = cancel.cancelled() => {
            match input {
                Some(input) => drop(input),
                None => child.start_kill().context("failed to end `ssh`")?,
            }
            child.wait().await
        }
    };
    code(ssh, words, ended.context("failed to wait for `ssh`")?)
}

fn code(ssh: &Ssh, words: &Words, ended: ExitStatus) -> Result<i32> {
    match ended.code() {
        Some(FAILED) if !words.foreign_code => bail!(Hinted::new(
            format!(
                "the connection to host `{}` ended before the command did",
                ssh.name
            ),
            "Run the command again: it continues from what is there",
        )),
        Some(code) => Ok(code),
        None => Ok(128 + ended.signal().unwrap_or_default()),
    }
}

/// What a command printed that ran on one of several hosts.
pub(crate) struct Printed {
    pub code: i32,
    /// What it printed as errors.
    pub errors: String,
}

/// Runs the command to its end without a terminal, and passes each line that it prints to `line`. It is told what is
/// said of other hosts. `cancel` interrupts it as Ctrl-C would.
pub(crate) async fn follow(
    ssh: &Ssh,
    program: &Program,
    words: &Words,
    mut said: Receiver<Said>,
    cancel: &CancellationToken,
    mut line: impl FnMut(String) -> Result<()>,
) -> Result<Printed> {
    let mut command = ssh.piped(&words.script(program, true));
    command.process_group(0);
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .context("failed to run `ssh`")?;
    let input = child.stdin.take();
    let output = child.stdout.take().context("`ssh` has no output")?;
    let mut errors = child.stderr.take().context("`ssh` has no errors")?;
    let told = async move {
        tokio::select! {
            // Its input ends with what tells.
            () = cancel.cancelled() => {}
            () = tell(&mut said, input) => {}
        }
        std::future::pending::<()>().await
    };
    let mut printed_errors = String::new();
    let ended = async {
        let mut lines = BufReader::new(output).lines();
        let printed = async {
            while let Some(printed) = lines.next_line().await? {
                line(printed)?;
            }
            anyhow::Ok(())
        };
        let errors = async { Ok(errors.read_to_string(&mut printed_errors).await?) };
        tokio::try_join!(printed, errors)?;
        anyhow::Ok(child.wait().await?)
    };
    let ended = tokio::select! {
        ended = ended => ended.context("failed to read what `ssh` printed")?,
        () = told => unreachable!("it waits forever"),
    };
    if ended.code() == Some(FAILED) {
        return Err(ssh.unreachable(&printed_errors));
    }
    Ok(Printed {
        code: code(ssh, words, ended)?,
        errors: printed_errors,
    })
}

/// Says what there is to say of other hosts, until none of them runs.
async fn tell(said: &mut Receiver<Said>, input: Option<ChildStdin>) {
    let Some(mut input) = input else {
        return;
    };
    while let Ok(said) = said.recv().await {
        // A command that ended needs nothing more.
        let _closed = input.write_all(said.line().as_bytes()).await;
    }
    // The end of its input would interrupt it.
    std::future::pending().await
}
