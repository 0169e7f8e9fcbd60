//! The supervisor's fronts: one HAProxy for each published HTTP server.
//!
//! The supervisor holds the listening socket, so connections wait while no HAProxy runs. A change starts another HAProxy
//! on the same socket; the one before accepts no more connections, and ends with its last request. A change that HAProxy
//! does not accept leaves the one before.
//!
//! ```text
//! DIR/front/ADDRESS.N.cfg   the configuration, with the number of the change
//! DIR/front/ADDRESS.N.pem   the certificate and its key, mode 0600
//! DIR/front/ADDRESS.N.log   what HAProxy says
//! DIR/front/root            an empty folder
//! DIR/run/fN                exists while HAProxy reads its configuration
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::haproxy::{self, Setting};
use crate::host;
use crate::pace::Pace;
use crate::wire::{FrontSettings, FrontStatus};

/// The deadline for HAProxy to accept its configuration; it needs some 50 ms.
const READY_WITHIN: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(10);
/// The most of HAProxy's words that an error has, in bytes.
const LONGEST_WORDS: usize = 2000;

pub(super) struct Fronts {
    folder: PathBuf,
    /// The folder of sockets.
    run: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    changes: u32,
    fronts: BTreeMap<SocketAddr, Front>,
}

struct Front {
    listener: TcpListener,
    /// What answers, or will when it is restarted; `None` before the first change was accepted.
    current: Option<Version>,
    /// What is being started.
    next: Option<Version>,
    /// Processes that end with their last requests.
    ending: Vec<Pid>,
    pace: Pace,
    restart: Option<Instant>,
}

/// A front's settings, and the process that has them.
struct Version {
    number: u32,
    settings: FrontSettings,
    pid: Option<Pid>,
}

/// A change that HAProxy has not accepted yet.
struct Started {
    number: u32,
    pid: Pid,
    /// The socket that exists once it has.
    ready: PathBuf,
}

impl Fronts {
    pub(super) fn new(folder: PathBuf, run: PathBuf) -> Fronts {
        // Files of a supervisor that was killed: nothing needs them, and what is left is replaced.
        let _ = fs::remove_dir_all(&folder);
        Fronts {
            folder,
            run,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host and guest of the fronts that answer.
    pub(super) fn addresses(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let answering = self.status().into_iter().filter(|status| status.answers);
        answering.map(|it| (it.host, it.settings.guest)).collect()
    }

    pub(super) fn status(&self) -> Vec<FrontStatus> {
        let state = self.state();
        let fronts = state.fronts.iter();
        let of = |(host, front): (&SocketAddr, &Front)| {
            let current = front.current.as_ref()?;
            Some(FrontStatus {
                host: *host,
                settings: current.settings.clone(),
                answers: current.pid.is_some() || !front.pace.is_slow(),
            })
        };
        fronts.filter_map(of).collect()
    }

    /// Serves `host` with these settings, on `listener` or on the existing listener of `host`. Returns when HAProxy has
    /// accepted them.
    pub(super) async fn serve(
        &self,
        host: SocketAddr,
        settings: FrontSettings,
        pem: Option<String>,
        listener: Option<OwnedFd>,
    ) -> io::Result<()> {
        let Started { number, pid, ready } = self.begin(host, settings, pem, listener)?;
        let deadline = Instant::now() + READY_WITHIN;
        let accepted = loop {
            if !self.is_starting(host, pid) {
                break Err(io::Error::other(self.words(host, number)));
            }
            if UnixStream::connect(&ready).await.is_ok() {
                break Ok(());
            }
            if Instant::now() > deadline {
                let error = format!("HAProxy did not start within {READY_WITHIN:?}");
                break Err(io::Error::other(error));
            }
            tokio::time::sleep(POLL).await;
        };
        let _ = fs::remove_file(ready);
        self.settle(host, accepted.is_ok());
        accepted
    }

    /// Starts HAProxy with other settings.
    fn begin(
        &self,
        host: SocketAddr,
        settings: FrontSettings,
        pem: Option<String>,
        listener: Option<OwnedFd>,
    ) -> io::Result<Started> {
        let mut state = self.state();
        if let Some(passed) = listener {
            state.fronts.insert(host, Front::on(passed));
        }
        state.changes += 1;
        let number = state.changes;
        let ready = self.run.join(format!("f{number}"));
        let started = (|| {
            let front = state.fronts.get_mut(&host);
            let front = front.ok_or_else(|| io::Error::other("the listening socket is missing"))?;
            let certificate = pem.map(|pem| self.write_certificate(host, number, &pem));
            let certificate = certificate.transpose()?;
            let text = haproxy::configuration(&Setting {
                listener: front.listener.as_raw_fd(),
                guest: settings.guest,
                hosts: &settings.hosts,
                certificate: certificate.as_deref(),
                ready: &ready,
            });
            self.write(&file(host, number, "cfg"), &text)?;
            let pid = self.spawn(host, number, &front.listener)?;
            front.next = Some(Version {
                number,
                settings,
                pid: Some(pid),
            });
            Ok(Started { number, pid, ready })
        })();
        drop(state);
        if started.is_err() {
            self.remove_files(host, number);
            self.settle(host, false);
        }
        started
    }

    /// Whether the process of a change that is not settled still runs.
    fn is_starting(&self, host: SocketAddr, pid: Pid) -> bool {
        let state = self.state();
        let next = state
            .fronts
            .get(&host)
            .and_then(|front| front.next.as_ref());
        next.is_some_and(|next| next.pid == Some(pid))
    }

    /// Keeps the change that was started, or restores the state before it.
    fn settle(&self, host: SocketAddr, accepted: bool) {
        let mut state = self.state();
        let Some(front) = state.fronts.get_mut(&host) else {
            return;
        };
        let next = front.next.take();
        let left = match (next, accepted) {
            (Some(next), true) => {
                // It may have ended since.
                front.restart = next.pid.is_none().then(Instant::now);
                let before = front.current.replace(next);
                if let Some(pid) = before.as_ref().and_then(|before| before.pid) {
                    // HAProxy then accepts no more connections, and ends with its last request.
                    signal(pid, Signal::USR1);
                }
                before
            }
            (next, _) => {
                if let Some(pid) = next.as_ref().and_then(|next| next.pid) {
                    signal(pid, Signal::KILL);
                }
                next
            }
        };
        if let Some(left) = left {
            front.ending.extend(left.pid);
            self.remove_files(host, left.number);
        }
        if front.current.is_none() {
            state.fronts.remove(&host);
        }
    }

    /// Closes `host` and its connections.
    pub(super) fn unpublish(&self, host: SocketAddr) {
        let Some(front) = self.state().fronts.remove(&host) else {
            return;
        };
        front.end();
        let versions = [front.current, front.next];
        for version in versions.into_iter().flatten() {
            self.remove_files(host, version.number);
        }
    }

    /// Ends all processes, and waits until they have ended. Without namespaces, nothing else does.
    pub(super) fn end(&self) {
        for front in self.state().fronts.values() {
            front.end();
            for pid in front.processes() {
                // One that is killed ends at once; one that was reaped is not a child any more.
                let _ = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
            }
        }
    }

    /// Notes that a process ended; returns the address that it served and the delay before its restart.
    pub(super) fn ended(&self, pid: Pid) -> Option<(SocketAddr, Duration)> {
        let mut state = self.state();
        for (host, front) in &mut state.fronts {
            front.ending.retain(|other| *other != pid);
            if let Some(next) = &mut front.next
                && next.pid == Some(pid)
            {
                next.pid = None;
            }
            if let Some(current) = &mut front.current
                && current.pid == Some(pid)
            {
                current.pid = None;
                let delay = front.pace.next_delay();
                front.restart = Some(Instant::now() + delay);
                return Some((*host, delay));
            }
        }
        None
    }

    /// When the next process is to be started again.
    pub(super) fn next_restart(&self) -> Option<Instant> {
        let state = self.state();
        state
            .fronts
            .values()
            .filter_map(|front| front.restart)
            .min()
    }

    /// Starts what is due again; returns what could not be started.
    pub(super) fn restart(&self) -> Vec<(SocketAddr, io::Error)> {
        let mut state = self.state();
        let mut failed = Vec::new();
        for (host, front) in &mut state.fronts {
            let Some(current) = &mut front.current else {
                continue;
            };
            if front.restart.is_none_or(|due| due > Instant::now()) {
                continue;
            }
            front.restart = None;
            front.pace.begin();
            match self.spawn(*host, current.number, &front.listener) {
                Ok(pid) => current.pid = Some(pid),
                Err(error) => {
                    front.restart = Some(Instant::now() + front.pace.next_delay());
                    failed.push((*host, error));
                }
            }
        }
        failed
    }

    /// Runs HAProxy on the listening socket.
    fn spawn(&self, host: SocketAddr, number: u32, listener: &TcpListener) -> io::Result<Pid> {
        let program = host::find("haproxy");
        let program = program.ok_or_else(|| io::Error::other(host::no_haproxy()))?;
        let log = File::create(self.folder.join(file(host, number, "log")))?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(file(host, number, "cfg"));
        command
            .env_clear()
            .env("PATH", host::search_path())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Only this child inherits it: no other is started meanwhile, because the supervisor has one thread.
        fcntl_setfd(listener, FdFlags::empty())?;
        let child = command.spawn();
        fcntl_setfd(listener, FdFlags::CLOEXEC)?;
        // The supervisor reaps all children, so only the process id of `Child` is needed.
        let pid = child?.id().try_into().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| io::Error::other("the process id is not valid"))
    }

    fn write_certificate(&self, host: SocketAddr, number: u32, pem: &str) -> io::Result<String> {
        let name = file(host, number, "pem");
        self.write(&name, pem)?;
        Ok(name)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        for (folder, mode) in [
            (self.folder.clone(), 0o700),
            (self.folder.join(haproxy::ROOT), 0o555),
        ] {
            match fs::DirBuilder::new().mode(mode).create(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())
    }

    fn remove_files(&self, host: SocketAddr, number: u32) {
        for kind in ["cfg", "pem", "log"] {
            // A front without TLS has no certificate; a file that stays is replaced.
            let _ = fs::remove_file(self.folder.join(file(host, number, kind)));
        }
    }

    /// What HAProxy said before it ended.
    fn words(&self, host: SocketAddr, number: u32) -> String {
        let path = self.folder.join(file(host, number, "log"));
        let words = fs::read_to_string(&path).unwrap_or_default();
        let end = words.floor_char_boundary(LONGEST_WORDS);
        format!("HAProxy does not start: {}", words[..end].trim())
    }
}

impl Front {
    fn on(passed: OwnedFd) -> Front {
        Front {
            listener: TcpListener::from(passed),
            current: None,
            next: None,
            ending: Vec::new(),
            pace: Pace::new(),
            restart: None,
        }
    }

    fn processes(&self) -> impl Iterator<Item = Pid> {
        let versions = [&self.current, &self.next].into_iter().flatten();
        let serving = versions.filter_map(|version| version.pid);
        serving.chain(self.ending.iter().copied())
    }

    /// Ends its processes and their connections; no further connection is accepted.
    fn end(&self) {
        self.processes().for_each(|pid| signal(pid, Signal::KILL));
        let _ = shutdown(self.listener.as_fd(), Shutdown::Both);
    }
}

/// The process may have ended: its `SIGCHLD` follows.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// A file of a change. Characters of addresses that configurations would need to quote are replaced.
fn file(host: SocketAddr, number: u32, kind: &str) -> String {
    format!("{}.{number}.{kind}", plain(host))
}

fn plain(host: SocketAddr) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    host.to_string().chars().map(keep).collect()
}
