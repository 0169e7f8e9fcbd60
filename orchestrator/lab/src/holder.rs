//! Finds the supervisor of a directory among the host's processes, for when its control socket does not answer.
//!
//! The socket and the lock are files that anybody may remove. The process stays, and so do the guests below it.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pspd_model::hint::Hinted;
use rustix::net::sockopt::socket_peercred;

/// The hidden subcommand that a supervisor runs as.
pub(super) const SUBCOMMAND: &str = "lab-supervisor";

/// A process that runs, seen from this process's PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub pid: u32,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// By SIGSTOP, or by a debugger.
    Stopped,
}

impl Holder {
    fn of(pid: u32) -> Option<Holder> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = state(&stat)?;
        Some(Holder { pid, state })
    }

    /// Returns the process that listens on the other end of a connection.
    pub(super) fn listening(stream: &UnixStream) -> Option<Holder> {
        let peer = socket_peercred(stream).ok()?;
        Holder::of(peer.pid.as_raw_nonzero().get().try_into().ok()?)
    }

    /// Returns what a person can do about a process that does not answer.
    pub(super) fn hint(self) -> String {
        let pid = self.pid;
        match self.state {
            State::Stopped => format!("Run `kill -CONT {pid}` to continue it"),
            State::Running => format!("Try again, or run `kill {pid}` to end it"),
        }
    }

    /// Returns the error of a process that does not answer.
    pub(super) fn silent(self) -> Hinted {
        Hinted::new(self.to_string(), self.hint())
    }
}

pub(super) fn is_stopped(pid: u32) -> bool {
    Holder::of(pid).is_some_and(|holder| holder.state == State::Stopped)
}

/// What is wrong with a process that does not answer.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.pid;
        match self.state {
            State::Stopped => write!(f, "process {pid} is stopped"),
            State::Running => write!(f, "process {pid} is running, but does not answer"),
        }
    }
}

/// Returns the supervisor of `dir`, an absolute path, if one runs. Needs no file of the directory.
pub(super) fn find(dir: &Path) -> Option<Holder> {
    let lock = fs::metadata(dir.join("lock")).ok();
    let lock = lock.map(|lock| (lock.dev(), lock.ino()));
    let holds = |process: &Path, named: &OsStr| {
        let held = fs::metadata(process.join("fd/0"));
        named == dir.as_os_str() || held.is_ok_and(|held| lock == Some((held.dev(), held.ino())))
    };
    let supervisors = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let named = directory(&line)?;
        holds(&entry.path(), named).then_some((line.len(), pid))
    });
    // `unshare` waits outside of the namespaces, and has the same arguments after its own.
    let (_, pid) = supervisors.min()?;
    Holder::of(pid)
}

/// Returns the directory in a supervisor's command line.
pub(super) fn directory(line: &[u8]) -> Option<&OsStr> {
    let mut arguments = line.strip_suffix(b"\0")?.rsplit(|byte| *byte == 0);
    let dir = arguments.next()?;
    (arguments.next()? == SUBCOMMAND.as_bytes()).then(|| OsStr::from_bytes(dir))
}

/// Returns the state in the text of `/proc/PID/stat`; `None` for a process that has ended.
fn state(stat: &str) -> Option<State> {
    // The name before it may contain anything, also parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    match fields.trim_start().chars().next()? {
        'T' | 't' => Some(State::Stopped),
        'Z' | 'X' => None,
        _ => Some(State::Running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisors_command_line_names_its_directory() {
        for (line, found) in [
            ("pspd\0lab-supervisor\0/state/a lab\0", Some("/state/a lab")),
            (
                "unshare\0--net\0--\0pspd\0lab-supervisor\0/lab\0",
                Some("/lab"),
            ),
            ("pspd\0up\0", None),
            ("", None),
        ] {
            assert_eq!(directory(line.as_bytes()), found.map(OsStr::new), "{line}");
        }
    }

    #[test]
    fn a_state_is_read_after_any_name() {
        for (stat, found) in [
            ("7 (pspd) S 1", Some(State::Running)),
            ("7 (a) T (b) T 1", Some(State::Stopped)),
            ("7 (pspd) Z 1", None),
            ("", None),
        ] {
            assert_eq!(state(stat), found, "{stat}");
        }
    }
}
