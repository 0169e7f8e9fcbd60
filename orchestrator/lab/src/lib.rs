//! The deployment's libvirtd in private namespaces, and the addresses that are published on the host.
//!
//! One supervisor process per directory owns the namespaces ([`supervise`]); the types in this module are handles that
//! talk to it. Domains and networks are not known here: libvirt manages them. Stopping a lab does not shut down domains
//! first.
//!
//! ```text
//! pspd up ── setsid, unshare ──> supervisor (process 1) ──> libvirtd ──> dnsmasq, QEMU
//!    └──── DIR/run/control ────────┘ (dial, publish, stop)       │
//!    └──── DIR/run/libvirt-sock ─────────────────────────────────┘
//! ```

mod daemon;
mod front;
mod haproxy;
mod holder;
mod host;
mod inherited;
pub mod keepalive;
mod logs;
mod namespace;
mod pace;
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
use pspd_model::hint::{self, Hinted};
use rustix::net::sockopt::socket_peercred;

use holder::Holder;
use start::Kind;
pub use supervisor::supervise;
pub use wire::{FrontSettings, FrontStatus};
use wire::{Reply, Request, Status};

/// The deadline for a reply of the supervisor to a request that needs no waiting.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// Returns the problems that prevent a lab on this host, each with a hint; empty if there are none.
pub fn faults() -> Vec<Hinted> {
    host::faults()
}

/// Checks that nothing listens on an address of the host yet, and that it is one; the error names what has it.
pub fn check_free(host: SocketAddr) -> anyhow::Result<()> {
    listen(host).map(drop)
}

/// Returns why this host cannot run fronts, with a hint; `None` if it can.
pub fn front_fault() -> Option<Hinted> {
    let missing = host::find("haproxy").is_none();
    missing.then(host::no_haproxy)
}

/// Whether a process was stopped by a signal, or by a debugger.
pub fn is_stopped(pid: u32) -> bool {
    holder::is_stopped(pid)
}

/// A handle to a deployment's running lab.
#[derive(Clone, Debug)]
pub struct Lab {
    relay: Relay,
}

impl Lab {
    /// Starts the lab whose private files are in `dir`, or connects to the running lab. libvirtd is ready when this
    /// returns. The supervisor is this program with the hidden subcommand `lab-supervisor`.
    ///
    /// Also returns notes for the user.
    pub fn start(dir: &Path) -> anyhow::Result<(Lab, Vec<String>)> {
        Lab::start_with(&this_program()?, dir)
    }

    /// [`Lab::start`] with another program that has the same subcommand.
    pub fn start_with(program: &Path, dir: &Path) -> anyhow::Result<(Lab, Vec<String>)> {
        let (relay, notes) = Relay::begin(program, dir, Kind::Lab)
            .with_context(|| format!("failed to start the lab in `{}`", dir.display()))?;
        Ok((Lab { relay }, notes))
    }

    /// Returns the lab of `dir` if its supervisor is running.
    pub fn running(dir: &Path) -> anyhow::Result<Option<Lab>> {
        Ok(Relay::running(dir)?.map(|relay| Lab { relay }))
    }

    /// Returns `qemu:///system?socket=PATH`, which is valid inside and outside the lab.
    pub fn libvirt_uri(&self) -> String {
        let socket = start::libvirt_socket(&self.relay.dir);
        format!("qemu:///system?socket={}", socket.display())
    }

    /// Returns why the lab's libvirtd does not answer, with its process and a hint; `None` if that is not known.
    pub fn libvirtd_fault(&self) -> Option<Hinted> {
        let stream = UnixStream::connect(start::libvirt_socket(&self.relay.dir)).ok()?;
        Holder::listening(&stream).map(Holder::silent)
    }

    /// Connects inside the lab's network; the returned socket keeps its namespace.
    pub fn dial(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let request = Request::Dial { to, timeout };
        let socket = start::control_socket(&self.relay.dir);
        let (_, passed) = wire::call(&socket, &request, None, timeout + REPLY_WITHIN)?;
        let stream = passed.map(TcpStream::from).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the reply contains no connected socket",
            )
        })?;
        // The supervisor's event loop made the open file non-blocking.
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Returns a command that runs `argv` in the lab, with this process's environment and working directory. In the
    /// lab, `virsh` without a URI connects to the lab's libvirtd.
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
        // It would win over the other.
        command.env_remove("VIRSH_DEFAULT_CONNECT_URI");
        Ok(command)
    }

    /// The lab's own relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// [`Relay::publish`] for an address in the lab's network.
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

    /// Stops the lab with all its processes, and waits until they have ended. Files are kept.
    pub fn stop(self) -> anyhow::Result<()> {
        self.relay.stop()
    }
}

/// A handle to a process that publishes guests on the host: a lab's supervisor, or a separate process for other libvirt
/// connections.
#[derive(Clone, Debug)]
pub struct Relay {
    dir: PathBuf,
}

impl Relay {
    /// Starts the relay whose files are in `dir`, or connects to the running relay.
    pub fn start(dir: &Path) -> anyhow::Result<Relay> {
        Relay::start_with(&this_program()?, dir)
    }

    /// [`Relay::start`] with another program that has the subcommand `lab-supervisor`.
    pub fn start_with(program: &Path, dir: &Path) -> anyhow::Result<Relay> {
        let (relay, _) = Relay::begin(program, dir, Kind::Relay)
            .with_context(|| format!("failed to start the relay in `{}`", dir.display()))?;
        Ok(relay)
    }

    fn begin(program: &Path, dir: &Path, kind: Kind) -> anyhow::Result<(Relay, Vec<String>)> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("failed to resolve the path `{}`", dir.display()))?;
        let status = start::start(program, &dir, kind)?;
        Ok((Relay { dir }, status.notes))
    }

    /// Returns the relay of `dir` if its process is running.
    pub fn running(dir: &Path) -> anyhow::Result<Option<Relay>> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("failed to resolve the path `{}`", dir.display()))?;
        Ok(start::status(&dir)?.map(|_| Relay { dir }))
    }

    /// Relays connections from `host`, a listening address of the host, to `guest`. Idempotent; publishing an address
    /// for another guest closes its connections.
    pub fn publish(&self, host: SocketAddr, guest: SocketAddr) -> anyhow::Result<()> {
        let known = self.published()?.iter().any(|&(other, _)| other == host);
        let listener = if known { None } else { Some(listen(host)?) };
        let pass = listener.as_ref().map(AsFd::as_fd);
        self.call(&Request::Publish { host, guest }, pass)
            .with_context(|| format!("failed to publish `{guest}` on `{host}`"))?;
        Ok(())
    }

    /// Serves `host`, a listening address of the host, as an HTTP front of a guest; `pem` is its certificate and key. A
    /// change of a front refuses no connection and breaks none. If it fails, the front stays as it is.
    pub fn front(
        &self,
        host: SocketAddr,
        settings: FrontSettings,
        pem: Option<String>,
    ) -> anyhow::Result<()> {
        let known = self.fronts()?.iter().any(|front| front.host == host);
        let listener = if known { None } else { Some(listen(host)?) };
        let pass = listener.as_ref().map(AsFd::as_fd);
        let guest = settings.guest;
        let request = Request::Front {
            host,
            settings,
            pem,
        };
        self.call(&request, pass)
            .with_context(|| format!("failed to publish `{guest}` on `{host}`"))?;
        Ok(())
    }

    /// Returns all fronts.
    pub fn fronts(&self) -> anyhow::Result<Vec<FrontStatus>> {
        Ok(self.status()?.fronts)
    }

    /// Closes `host` and its connections; does nothing if it is not published.
    pub fn unpublish(&self, host: SocketAddr) -> anyhow::Result<()> {
        self.call(&Request::Unpublish { host }, None)
            .with_context(|| format!("failed to unpublish `{host}`"))?;
        Ok(())
    }

    /// Returns the published addresses: host address and guest address.
    pub fn published(&self) -> anyhow::Result<Vec<(SocketAddr, SocketAddr)>> {
        Ok(self.status()?.published)
    }

    fn status(&self) -> anyhow::Result<Status> {
        match self.call(&Request::Status, None)? {
            Reply::Status(status) => Ok(status),
            reply => bail!("unexpected reply of the supervisor to a status request: `{reply:?}`"),
        }
    }

    /// Stops the relay and its connections, and waits until the process has ended.
    pub fn stop(self) -> anyhow::Result<()> {
        start::stop(&self.dir)
    }

    fn call(
        &self,
        request: &Request,
        pass: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> anyhow::Result<Reply> {
        let socket = start::control_socket(&self.dir);
        let (reply, _) = wire::call(&socket, request, pass, REPLY_WITHIN)
            .with_context(|| format!("failed to call the supervisor on `{}`", socket.display()))?;
        Ok(reply)
    }

    /// Returns the supervisor's process id in this process's PID namespace.
    fn supervisor(&self) -> anyhow::Result<u32> {
        let socket = start::control_socket(&self.dir);
        let stream = UnixStream::connect(&socket)
            .with_context(|| format!("failed to connect to `{}`", socket.display()))?;
        let peer = socket_peercred(&stream).context("failed to get the supervisor's process id")?;
        Ok(peer.pid.as_raw_nonzero().get().try_into()?)
    }
}

fn this_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("failed to find the path of the pspd program")
}

/// Returns the working directory if it also exists in the lab.
fn same_directory(supervisor: &str) -> Option<PathBuf> {
    let directory = env::current_dir().ok()?;
    let root = Path::new("/proc").join(supervisor).join("root");
    let inside = root.join(directory.strip_prefix("/").ok()?);
    inside.is_dir().then_some(directory)
}

fn listen(host: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(host).map_err(|error| {
        let context = match error.kind() {
            io::ErrorKind::AddrInUse => port::holder(host.port())
                .map(|holder| format!("failed to listen on `{host}`, which is used by {holder}")),
            io::ErrorKind::PermissionDenied => Some(format!(
                "failed to listen on `{host}`: an ordinary user may not use this port"
            )),
            io::ErrorKind::AddrNotAvailable => Some(format!(
                "failed to listen on `{host}`: this host does not have the address `{}`",
                host.ip()
            )),
            _ => None,
        };
        let context = context.unwrap_or_else(|| format!("failed to listen on `{host}`"));
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let error = anyhow::Error::new(error).context(context);
        if !denied {
            return error;
        }
        let hint = format!(
            "As root, run `sysctl -w net.ipv4.ip_unprivileged_port_start={}`, or use a port above 1023",
            host.port()
        );
        Hinted::new(error, hint).into()
    })
}

/// Returns an error with its causes and their hints, as one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let (message, hint) = hint::apart(error, hint::of);
    hint::joined(&message, hint.as_deref())
}
