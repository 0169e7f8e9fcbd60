//! The deployment's own libvirtd in private namespaces, and what is published on the host.
//!
//! One supervisor process per directory holds the namespaces ([`supervise`]); the types here are handles that talk to
//! it. Domains and networks are not known here: they belong to libvirt. Ending a lab doesn't shut domains down first.
//!
//! ```text
//! pspd up ── setsid, unshare ──> supervisor (process 1) ──> libvirtd ──> dnsmasq, QEMU
//!    └──── DIR/run/control ────────┘ (dial, publish, stop)       │
//!    └──── DIR/run/libvirt-sock ─────────────────────────────────┘
//! ```

mod daemon;
mod host;
mod inherited;
mod namespace;
mod port;
mod publish;
mod start;
mod supervisor;
mod wire;

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::net::sockopt::socket_peercred;

use start::Kind;
pub use supervisor::supervise;
use wire::{Reply, Request};

/// How long the supervisor may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps a lab from working on this host, each fault with what to do about it; empty where it works.
pub fn faults() -> Vec<String> {
    host::faults()
}

/// A handle to a deployment's running lab.
#[derive(Clone, Debug)]
pub struct Lab {
    relay: Relay,
}

impl Lab {
    /// Starts the lab whose private files live in `dir`, or takes the running one; libvirtd answers when this returns.
    /// The supervisor is this same program, by its hidden subcommand `lab-supervisor`.
    ///
    /// Returns what a user should know of it, too.
    pub fn start(dir: &Path) -> anyhow::Result<(Lab, Vec<String>)> {
        Lab::start_with(&this_program()?, dir)
    }

    /// [`Lab::start`] with another program that has the subcommand.
    pub fn start_with(program: &Path, dir: &Path) -> anyhow::Result<(Lab, Vec<String>)> {
        let (relay, notes) = Relay::begin(program, dir, Kind::Lab)
            .with_context(|| format!("start the lab of `{}`", dir.display()))?;
        Ok((Lab { relay }, notes))
    }

    /// The lab of `dir` if its supervisor runs.
    pub fn running(dir: &Path) -> anyhow::Result<Option<Lab>> {
        Ok(Relay::running(dir)?.map(|relay| Lab { relay }))
    }

    /// `qemu:///system?socket=PATH`, good in- and outside of the lab.
    pub fn libvirt_uri(&self) -> String {
        let socket = start::libvirt_socket(&self.relay.dir);
        format!("qemu:///system?socket={}", socket.display())
    }

    /// Connects inside the lab's network; the socket that comes back keeps its namespace.
    pub fn dial(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let request = Request::Dial { to, timeout };
        let socket = start::control_socket(&self.relay.dir);
        let (_, passed) = wire::call(&socket, &request, None, timeout + PATIENCE)?;
        let stream = passed.map(TcpStream::from).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "no connected socket came back")
        })?;
        // The supervisor's event loop had it non-blocking, which belongs to the open file.
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// A command line that runs `argv` in the lab, with this process's environment and working directory. Plain
    /// `virsh` there speaks to the lab's libvirtd.
    pub fn enter<S: AsRef<OsStr>>(
        &self,
        argv: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Command> {
        let supervisor = self.relay.supervisor()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &supervisor, "--preserve-credentials"]);
        command.args(["--mount", "--net", "--pid", "--uts", "--ipc"]);
        if !host::is_root() {
            command.arg("--user");
        }
        if let Some(directory) = same_directory(&supervisor) {
            let mut option = std::ffi::OsString::from("--wdns=");
            option.push(directory);
            command.arg(option);
        }
        command.arg("--").args(argv);
        command.env("PATH", host::search_path());
        command.env("LIBVIRT_DEFAULT_URI", self.libvirt_uri());
        Ok(command)
    }

    /// The lab's own relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// [`Relay::publish`] to an address of the lab's network.
    pub fn publish(&self, host: SocketAddr, guest: SocketAddr) -> anyhow::Result<()> {
        self.relay.publish(host, guest)
    }

    /// [`Relay::unpublish`].
    pub fn unpublish(&self, host: SocketAddr) -> anyhow::Result<()> {
        self.relay.unpublish(host)
    }

    /// [`Relay::published`].
    pub fn published(&self) -> anyhow::Result<Vec<(SocketAddr, SocketAddr)>> {
        self.relay.published()
    }

    /// Ends the lab and every process in it, and waits for that. Files stay.
    pub fn stop(self) -> anyhow::Result<()> {
        self.relay.stop()
    }
}

/// A handle to a process that publishes guests on the host: a lab's supervisor, or one of its own where guests live
/// behind another libvirt connection.
#[derive(Clone, Debug)]
pub struct Relay {
    dir: PathBuf,
}

impl Relay {
    /// Starts the relay whose files live in `dir`, or takes the running one.
    pub fn start(dir: &Path) -> anyhow::Result<Relay> {
        Relay::start_with(&this_program()?, dir)
    }

    /// [`Relay::start`] with another program that has the subcommand `lab-supervisor`.
    pub fn start_with(program: &Path, dir: &Path) -> anyhow::Result<Relay> {
        let (relay, _) = Relay::begin(program, dir, Kind::Relay)
            .with_context(|| format!("start the relay of `{}`", dir.display()))?;
        Ok(relay)
    }

    fn begin(program: &Path, dir: &Path, kind: Kind) -> anyhow::Result<(Relay, Vec<String>)> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("resolve the path `{}`", dir.display()))?;
        let status = start::start(program, &dir, kind)?;
        Ok((Relay { dir }, status.notes))
    }

    /// The relay of `dir` if its process runs.
    pub fn running(dir: &Path) -> anyhow::Result<Option<Relay>> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("resolve the path `{}`", dir.display()))?;
        Ok(start::status(&dir)?.map(|_| Relay { dir }))
    }

    /// Relays connections to `host`, a listening address of the host, to `guest`. Idempotent; an address that is
    /// published already gets its new guest and loses its connections.
    pub fn publish(&self, host: SocketAddr, guest: SocketAddr) -> anyhow::Result<()> {
        let known = self.published()?.iter().any(|&(other, _)| other == host);
        let listener = if known { None } else { Some(listen(host)?) };
        let pass = listener.as_ref().map(AsFd::as_fd);
        self.call(&Request::Publish { host, guest }, pass)
            .with_context(|| format!("publish `{guest}` as `{host}`"))?;
        Ok(())
    }

    /// Closes `host` and its connections; nothing if it isn't published.
    pub fn unpublish(&self, host: SocketAddr) -> anyhow::Result<()> {
        self.call(&Request::Unpublish { host }, None)
            .with_context(|| format!("unpublish `{host}`"))?;
        Ok(())
    }

    /// What is relayed now: host address and guest address.
    pub fn published(&self) -> anyhow::Result<Vec<(SocketAddr, SocketAddr)>> {
        match self.call(&Request::Status, None)? {
            Reply::Status(status) => Ok(status.published),
            reply => bail!("the supervisor answered `{reply:?}` when asked what is published"),
        }
    }

    /// Ends the relay and its connections, and waits for that.
    pub fn stop(self) -> anyhow::Result<()> {
        start::stop(&self.dir)
    }

    fn call(
        &self,
        request: &Request,
        pass: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> anyhow::Result<Reply> {
        let socket = start::control_socket(&self.dir);
        let (reply, _) = wire::call(&socket, request, pass, PATIENCE)
            .with_context(|| format!("ask the supervisor behind `{}`", socket.display()))?;
        Ok(reply)
    }

    /// The supervisor's process number, as this process sees it.
    fn supervisor(&self) -> anyhow::Result<u32> {
        let socket = start::control_socket(&self.dir);
        let stream = UnixStream::connect(&socket)
            .with_context(|| format!("connect to `{}`", socket.display()))?;
        let peer = socket_peercred(&stream).context("ask who the supervisor is")?;
        Ok(peer.pid.as_raw_nonzero().get().try_into()?)
    }
}

fn this_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("find the path of this program")
}

/// The working directory, if the lab has it, too.
fn same_directory(supervisor: &str) -> Option<PathBuf> {
    let directory = env::current_dir().ok()?;
    let root = Path::new("/proc").join(supervisor).join("root");
    let inside = root.join(directory.strip_prefix("/").ok()?);
    inside.is_dir().then_some(directory)
}

fn listen(host: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(host).map_err(|error| {
        let by = (error.kind() == io::ErrorKind::AddrInUse)
            .then(|| port::holder(host.port()))
            .flatten();
        let context = match by {
            Some(holder) => format!("listen on `{host}`, which {holder} has"),
            None => format!("listen on `{host}`"),
        };
        anyhow::Error::new(error).context(context)
    })
}
