//! The supervisor process of a lab: process 1 of its namespaces. Without namespaces, it only relays connections.
//!
//! One thread serves the control socket, the relays and the child processes. It reaps every process of the lab and
//! restarts libvirtd and the fronts when they end. It restores its lock and sockets when somebody removes them. When the supervisor ends, all processes of the lab end. It does not shut down
//! domains: the caller does so before it asks the supervisor to stop.
//!
//! Descriptor 0 is the lock file of the lab's directory, held until the last process of the lab ends; descriptor 1
//! receives one line for the parent process ([`Announcement`]); descriptor 2 is the log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use pspd_model::hint::Hinted;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit, wait};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::daemon::{self, Daemon};
use crate::front::Fronts;
use crate::publish::Published;
use crate::start::{control_socket, libvirt_socket, runtime_directory};
use crate::wire::{self, Announcement, Incoming, Reply, Request, Status};
use crate::{host, logs, namespace};

/// The limit of open files for the relays; the same as in libvirtd's systemd unit.
const DESCRIPTORS: u64 = 8192;
/// The time between two looks at the files that others find the lab by.
pub(super) const CHECK: Duration = Duration::from_secs(1);
/// The deadline for a client to send its request.
const REQUEST: Duration = Duration::from_secs(10);

/// Serves the lab or relay of `dir` until a stop request. Must be called before any thread exists, by the hidden
/// subcommand that [`super::Lab::start`] runs.
pub fn supervise(dir: &Path) -> anyhow::Result<()> {
    let prepared = prepare(dir);
    let announcement = match &prepared {
        Ok(_) => Announcement::Ready,
        Err(error) => Announcement::Failed {
            error: crate::told(error.as_ref()),
        },
    };
    let line = serde_json::to_string(&announcement)?;
    writeln!(io::stdout(), "{line}").context("failed to report to the parent process")?;
    let (runtime, supervisor) = prepared?;
    runtime.block_on(supervisor.run())
}

fn log(message: std::fmt::Arguments<'_>) {
    let now = jiff::Timestamp::now();
    // A failed write to the log cannot be reported anywhere else.
    let _ = writeln!(io::stderr(), "{now:.3} {message}");
}

fn prepare(dir: &Path) -> anyhow::Result<(Runtime, Supervisor)> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS))),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("failed to raise the limit of open files")?;

    // Only a lab's supervisor is process 1 of its PID namespace.
    let (daemon, notes) = if rustix::process::getpid().is_init() {
        start_lab(dir)?
    } else {
        (None, Vec::new())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    let supervisor = {
        let _context = runtime.enter();
        Supervisor::new(dir, daemon, notes)?
    };
    Ok((runtime, supervisor))
}

fn start_lab(dir: &Path) -> anyhow::Result<(Option<Daemon>, Vec<String>)> {
    let sockets = runtime_directory(dir);
    namespace::ensure_alone()?;
    namespace::make_private(dir, &sockets)?;
    namespace::bring_up_network()?;
    let (firewall, note) = namespace::choose_firewall();
    daemon::configure(&namespace::configuration(dir), &sockets, firewall)?;
    let program = host::find("libvirtd").context("failed to find `libvirtd`")?;
    let daemon = Daemon::start(program, &libvirt_socket(dir))?;
    Ok((Some(daemon), note.into_iter().collect()))
}

struct Supervisor {
    dir: PathBuf,
    control: Control,
    /// Descriptor 0, or the lock that replaces it after it was removed.
    lock: File,
    children: Signal,
    terminate: Signal,
    daemon: Option<Daemon>,
    restart: Option<Instant>,
    /// The folder of the guests' consoles, beside the lab's.
    consoles: PathBuf,
    shared: Arc<Shared>,
}

/// State shared by the connections of the control socket.
struct Shared {
    published: Mutex<Published>,
    fronts: Fronts,
    notes: Vec<String>,
    stop: Notify,
}

impl Supervisor {
    fn new(dir: &Path, daemon: Option<Daemon>, notes: Vec<String>) -> anyhow::Result<Supervisor> {
        Ok(Supervisor {
            dir: dir.to_owned(),
            control: Control::bind(dir)?,
            lock: File::from(io::stdin().as_fd().try_clone_to_owned()?),
            children: signal(SignalKind::child()).context("failed to handle SIGCHLD")?,
            terminate: signal(SignalKind::terminate()).context("failed to handle SIGTERM")?,
            daemon,
            restart: None,
            consoles: dir.with_file_name("console"),
            shared: Arc::new(Shared {
                published: Mutex::default(),
                fronts: Fronts::new(dir.join("front"), runtime_directory(dir)),
                notes,
                stop: Notify::new(),
            }),
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        // Children may have ended before the signal handler was installed.
        self.reap();
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shorten = interval(logs::INTERVAL);
        shorten.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = self.shared.clone();
        loop {
            let restart = self.restart;
            let front = shared.fronts.next_restart();
            tokio::select! {
                accepted = self.control.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(serve(stream, self.shared.clone()));
                    }
                    Err(error) => {
                        log(format_args!("failed to accept a control connection: {error}"));
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = self.children.recv() => self.reap(),
                () = sleep_until(restart.unwrap_or_else(Instant::now)), if restart.is_some() => {
                    self.restart_daemon();
                }
                () = sleep_until(front.unwrap_or_else(Instant::now)), if front.is_some() => {
                    for (host, error) in shared.fronts.restart() {
                        let error = crate::told(&error);
                        log(format_args!("failed to restart the front of {host}: {error}"));
                    }
                }
                _ = check.tick() => {
                    if let Err(error) = self.restore() {
                        log(format_args!("{}", crate::told(error.as_ref())));
                    }
                }
                _ = shorten.tick() => logs::shorten(&self.consoles),
                _ = self.terminate.recv() => break,
                () = shared.stop.notified() => break,
            }
        }
        shared.fronts.end();
        Ok(())
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let delay = self.daemon.as_mut().and_then(|daemon| daemon.ended(pid));
            if let Some(delay) = delay {
                let status = daemon::describe(status);
                log(format_args!(
                    "libvirtd ended ({status}); restarting it in {delay:?}"
                ));
                self.restart = Some(Instant::now() + delay);
            } else if let Some((host, delay)) = self.shared.fronts.ended(pid) {
                let status = daemon::describe(status);
                log(format_args!(
                    "the front of {host} ended ({status}); restarting it in {delay:?}"
                ));
            }
        }
    }

    /// Restores what somebody removed: the lock, the control socket, libvirt's socket.
    fn restore(&mut self) -> anyhow::Result<()> {
        self.restore_lock()?;
        if !self.control.is_at_its_path() {
            self.control = Control::bind(&self.dir)?;
            log(format_args!("restored the control socket"));
        }
        let socket = libvirt_socket(&self.dir);
        let exists = fs::metadata(&socket).is_ok_and(|found| found.file_type().is_socket());
        if let Some(daemon) = &mut self.daemon
            && daemon.lost_socket(exists)
        {
            log(format_args!(
                "`{}` was removed; restarting libvirtd",
                socket.display()
            ));
            daemon.end()?;
        }
        Ok(())
    }

    fn restore_lock(&mut self) -> anyhow::Result<()> {
        let path = self.dir.join("lock");
        let held = self.lock.metadata();
        let held = held.context("failed to read the lock's metadata")?;
        let found = fs::metadata(&path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())) {
            return Ok(());
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("failed to restore `{}`", path.display()))?;
        // A client that looks for a lab holds it for a moment; then the next check restores it.
        if lock.try_lock().is_ok() {
            self.lock = lock;
            log(format_args!("restored the lock"));
        }
        Ok(())
    }

    fn restart_daemon(&mut self) {
        self.restart = None;
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if let Err(error) = daemon.spawn() {
            let delay = daemon.next_delay();
            log(format_args!("{error:#}; retrying in {delay:?}"));
            self.restart = Some(Instant::now() + delay);
        }
    }
}

/// The listening control socket.
struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode.
    bound: (u64, u64),
}

impl Control {
    /// Listens in the runtime directory of `dir`, instead of on what is at this path.
    fn bind(dir: &Path) -> anyhow::Result<Control> {
        let path = control_socket(dir);
        let bind = || -> io::Result<Control> {
            match fs::DirBuilder::new()
                .mode(0o700)
                .create(runtime_directory(dir))
            {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            let bound = fs::symlink_metadata(&path)?;
            Ok(Control {
                listener,
                bound: (bound.dev(), bound.ino()),
                path: path.clone(),
            })
        };
        bind().with_context(|| format!("failed to listen on `{}`", path.display()))
    }

    fn is_at_its_path(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.bound)
    }
}

async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    if let Err(error) = converse(&stream, &shared).await {
        log(format_args!(
            "failed to serve a control connection: {error}"
        ));
    }
}

async fn converse(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let incoming = timeout(REQUEST, receive(stream)).await??;
    let (stop, answered) = match incoming.parse() {
        Ok((request, passed)) => (
            matches!(request, Request::Stop),
            answer(request, passed, shared).await,
        ),
        Err(error) => (false, Err(unknown(&error))),
    };
    let (reply, pass) = answered.unwrap_or_else(|error| (error.into(), None));
    stream
        .async_io(Interest::WRITABLE, || {
            let pass = pass.as_ref().map(AsFd::as_fd);
            wire::send(stream.as_fd(), &reply, pass)
        })
        .await?;
    if stop {
        shared.stop.notify_one();
    }
    Ok(())
}

/// What a later version may ask for.
fn unknown(error: &io::Error) -> io::Error {
    let version = env!("CARGO_PKG_VERSION");
    io::Error::other(Hinted::new(
        format!(
            "the lab's supervisor is from pspd {version} and does not support this request ({error})"
        ),
        "Run `pspd down`, then `pspd up`",
    ))
}

async fn receive(stream: &UnixStream) -> io::Result<Incoming> {
    let mut incoming = Incoming::default();
    loop {
        let complete = stream
            .async_io(Interest::READABLE, || incoming.receive(stream.as_fd()))
            .await?;
        if complete {
            return Ok(incoming);
        }
    }
}

async fn answer(
    request: Request,
    passed: Option<OwnedFd>,
    shared: &Shared,
) -> io::Result<(Reply, Option<OwnedFd>)> {
    let published = || {
        shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    match request {
        Request::Status => {
            let (mut all, fronts) = (published().addresses(), shared.fronts.status());
            all.extend(shared.fronts.addresses());
            let status = Status {
                published: all,
                fronts,
                notes: shared.notes.clone(),
            };
            return Ok((Reply::Status(status), None));
        }
        Request::Dial { to, timeout } => {
            return Ok((Reply::Done, Some(dial(to, timeout).await?)));
        }
        Request::Publish { host, guest } => published().publish(host, guest, passed)?,
        Request::Front {
            host,
            settings,
            pem,
        } => shared.fronts.serve(host, settings, pem, passed).await?,
        Request::Unpublish { host } => {
            published().unpublish(host);
            shared.fronts.unpublish(host);
        }
        Request::Stop => {}
    }
    Ok((Reply::Done, None))
}

async fn dial(to: SocketAddr, limit: Duration) -> io::Result<OwnedFd> {
    let stream = timeout(limit, TcpStream::connect(to))
        .await
        .map_err(|_| io::Error::from(Errno::TIMEDOUT))??;
    Ok(stream.into_std()?.into())
}
