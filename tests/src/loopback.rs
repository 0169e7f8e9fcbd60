//! A server for clients on the same machine: a process on a free loopback port, without TLS, stopped on drop.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::process::Owned;
use crate::root;
use crate::wait::Wait;

const START: Duration = Duration::from_secs(60);
/// The unit of processor times in proc(5), on every architecture.
const TICK: Duration = Duration::from_millis(10);
const POLL: Duration = Duration::from_millis(20);

/// A loopback port that nothing listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running server.
pub struct Server {
    pub name: String,
    process: Owned,
    pub port: u16,
}

impl Server {
    /// Starts the command that `command` builds for a port, and waits until that port accepts connections.
    pub fn start(name: &str, command: impl FnOnce(u16) -> Command) -> anyhow::Result<Server> {
        let port = free_port()?;
        let mut command = command(port);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut server = Server {
            name: name.to_owned(),
            process: Owned::spawn(&mut command)?,
            port,
        };
        let wait = Wait::new(START);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.ended()?;
            ensure!(ended.is_none(), "`{name}` ended at its start: {ended:?}");
            wait.check(format_args!("`{name}` to listen"))?;
            std::thread::sleep(POLL);
        }
        Ok(server)
    }

    /// One of the project's services as it is deployed; `variables` adds to the environment of every service.
    pub fn service(name: &str, variables: &[(&str, &str)]) -> anyhow::Result<Server> {
        Server::service_of(&root().join("target/services"), name, variables)
    }

    /// The same, of a build in another folder.
    pub fn service_of(
        folder: &Path,
        name: &str,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Server> {
        Server::start(name, |port| {
            let mut command = Command::new(folder.join(name));
            command
                .env("PSPD_NAME", name)
                .env("PSPD_LISTEN", format!("127.0.0.1:{port}"))
                .env("PSPD_INSECURE_LOOPBACK", "1")
                .envs(variables.iter().copied());
            command
        })
    }

    /// The reference deployment's three services, connected: database, classifier, web.
    pub fn reference(folder: &Path) -> anyhow::Result<[Server; 3]> {
        Server::reference_at(folder, 0)
    }

    /// The same, with the web server's HTTP side on a port.
    pub fn reference_at(folder: &Path, http: u16) -> anyhow::Result<[Server; 3]> {
        let store = folder.join("store.sqlite").display().to_string();
        let database = Server::service("database-server", &[("DATABASE_STORE", &store)])?;
        let ai = Server::service("ai-server", &[("AI_DATABASE", &database.url())])?;
        let (store, classifier) = (database.url(), ai.url());
        let http = format!("127.0.0.1:{http}");
        let variables = [
            ("WEB_DATABASE", store.as_str()),
            ("WEB_AI", &classifier),
            ("WEB_HTTP", &http),
        ];
        let web = Server::service("web-server", &variables)?;
        Ok([database, ai, web])
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The current resident memory, in MiB.
    pub fn memory(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// The peak resident memory, in MiB.
    pub fn most_memory(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &'static str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .with_context(|| format!("`{}` is not running", self.name))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .context(field)?;
        Ok(kib.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Processor time spent so far.
    pub fn processor(&self) -> anyhow::Result<Duration> {
        processor(&self.process.id().to_string())
    }
}

/// Processor time that a process has spent in all its threads and in the kernel: proc(5), `stat`.
pub fn processor(process: &str) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may contain anything; it ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("proc's `stat`")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * u32::try_from(ticks.iter().sum::<u64>())?)
}
