//! The lab's libvirtd, a child process of the supervisor: configuration, start, readiness and restarts.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use crate::host;
use crate::pace::Pace;

const READY_WITHIN: Duration = Duration::from_secs(60);
/// libvirtd creates its sockets early in its start; one that is missing for longer was removed meanwhile.
const SOCKET_WITHIN: Duration = Duration::from_secs(15);
/// libvirtd waits up to 30 s for its own threads when it is asked to end, longer than its clients should.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// See libvirt's `qemu.conf`. In a user namespace, files cannot be chowned to unmapped ids. These settings isolate the
/// files of guests from each other, which is not needed: each lab has its own files.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"#;

/// A firewall backend of libvirt's `network.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firewall {
    /// libvirt's default.
    Default,
    Iptables,
}

/// Writes libvirt's configuration to `etc`; the sockets will be in `sockets`.
pub(super) fn configure(etc: &Path, sockets: &Path, firewall: Firewall) -> anyhow::Result<()> {
    // The directory has mode 0700, so that only the user can reach the socket.
    let libvirtd = format!(
        "unix_sock_dir = \"{}\"\nunix_sock_ro_perms = \"0700\"\nunix_sock_rw_perms = \"0700\"\n\
         auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n",
        sockets.display()
    );
    let network = match firewall {
        Firewall::Default => "",
        Firewall::Iptables => "firewall_backend = \"iptables\"\n",
    };
    for (name, text) in [
        ("qemu.conf", QEMU_CONF),
        ("libvirtd.conf", &libvirtd),
        ("network.conf", network),
    ] {
        let path = etc.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}

/// libvirtd, running or about to be restarted.
pub(super) struct Daemon {
    program: PathBuf,
    pid: Option<Pid>,
    started: Instant,
    pace: Pace,
    /// Whether its socket existed since it was started.
    had_socket: bool,
    /// Whether it was asked to end.
    ending: bool,
}

impl Daemon {
    /// Starts libvirtd and waits until it answers on `socket`.
    pub(super) fn start(program: PathBuf, socket: &Path) -> anyhow::Result<Daemon> {
        let mut daemon = Daemon {
            program,
            pid: None,
            started: Instant::now(),
            pace: Pace::new(),
            had_socket: false,
            ending: false,
        };
        daemon.spawn()?;
        daemon.wait_for_answer(socket)?;
        Ok(daemon)
    }

    pub(super) fn spawn(&mut self) -> anyhow::Result<()> {
        // The caller's environment must not affect it: `LISTEN_FDS`, `NOTIFY_SOCKET`, `LIBVIRT_*`.
        let child = Command::new(&self.program)
            .env_clear()
            .env("PATH", host::search_path())
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(io::stderr().as_fd().try_clone_to_owned()?)
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.program.display()))?;
        // Process 1 reaps all children, so only the process id of `Child` is needed.
        self.pid = Pid::from_raw(child.id().try_into()?);
        self.started = Instant::now();
        self.pace.begin();
        (self.had_socket, self.ending) = (false, false);
        Ok(())
    }

    /// Takes whether its socket exists now; returns whether it was removed. One that libvirtd does not create in time
    /// counts as removed, and so does that of a libvirtd that does not end in time.
    pub(super) fn lost_socket(&mut self, exists: bool) -> bool {
        let within = if self.ending {
            ENDS_WITHIN
        } else {
            SOCKET_WITHIN
        };
        let expected = self.had_socket || self.started.elapsed() > within;
        self.had_socket |= exists;
        self.pid.is_some() && expected && !exists
    }

    /// Ends libvirtd, the second time by force. Its domains and networks continue to run, and [`Daemon::ended`] follows.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        let signal = if self.ending {
            Signal::KILL
        } else {
            Signal::TERM
        };
        // Not again until it had time to end.
        (self.had_socket, self.ending, self.started) = (false, true, Instant::now());
        match self.pid {
            Some(pid) => kill_process(pid, signal).context("failed to end libvirtd"),
            None => Ok(()),
        }
    }

    /// Waits until libvirtd answers, and reaps processes meanwhile: libvirtd probes QEMU in processes that become
    /// children of process 1. It kills some of them, and then waits until they are reaped.
    fn wait_for_answer(&mut self, socket: &Path) -> anyhow::Result<()> {
        let mut request = None;
        while self.started.elapsed() < READY_WITHIN {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if self.pid == Some(pid) {
                    bail!("libvirtd ended before it answered ({})", describe(status));
                }
            }
            match request.take().map_or_else(|| ask(socket), Ok) {
                Ok(mut stream) => match read_answer(&mut stream) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        request = Some(stream)
                    }
                    Err(_) => std::thread::sleep(POLL),
                },
                Err(_) => std::thread::sleep(POLL),
            }
        }
        bail!("timed out waiting for libvirtd on `{}`", socket.display());
    }

    /// Returns the delay before the next [`Daemon::spawn`] if the ended process was libvirtd.
    pub(super) fn ended(&mut self, pid: Pid) -> Option<Duration> {
        if self.pid != Some(pid) {
            return None;
        }
        self.pid = None;
        Some(self.next_delay())
    }

    /// Returns the delay before another attempt to start it.
    pub(super) fn next_delay(&mut self) -> Duration {
        self.pace.next_delay()
    }
}

pub(super) fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown status".into(),
    }
}

/// Asks libvirtd for its authentication methods, the first call of every client. The socket accepts connections long
/// before the drivers are ready; libvirtd answers only then. See <https://libvirt.org/kbase/internals/rpc.html>.
fn ask(socket: &Path) -> io::Result<UnixStream> {
    const LENGTH: u32 = 28;
    const REMOTE_PROGRAM: u32 = 0x2000_8086;
    const VERSION: u32 = 1;
    const AUTH_LIST: u32 = 66;
    const CALL: u32 = 0;
    let call = [LENGTH, REMOTE_PROGRAM, VERSION, AUTH_LIST, CALL, 0, 0];
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(POLL))?;
    stream.write_all(&call.map(u32::to_be_bytes).concat())?;
    Ok(stream)
}

/// Returns `WouldBlock` until there is an answer.
fn read_answer(stream: &mut UnixStream) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    // If the rest were not read, libvirtd would log a broken connection.
    let rest = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
    io::copy(&mut stream.take(rest), &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_lost_only_after_it_existed() {
        let mut daemon = Daemon {
            program: PathBuf::new(),
            pid: Pid::from_raw(7),
            started: Instant::now(),
            pace: Pace::new(),
            had_socket: false,
            ending: false,
        };
        let lost = [false, true, true, false].map(|exists| daemon.lost_socket(exists));
        assert_eq!(lost, [false, false, false, true]);
        daemon.had_socket = false;
        assert!(!daemon.lost_socket(false));
        daemon.started = Instant::now() - SOCKET_WITHIN - POLL;
        assert!(daemon.lost_socket(false));
    }
}
