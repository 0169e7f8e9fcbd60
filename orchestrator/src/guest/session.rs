//! An SSH session over libssh2. Only this file and `connect` use libssh2.
//!
//! libssh2 itself would block past the remote end's exit and past a cancellation. So it runs without blocking, and
//! [`Session::wait`] waits for its socket.

use std::io::{self, ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel};
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use crate::cancelled::Cancelled;

/// The deadline for an immediate answer of the guest, which is slow while it boots under emulation.
pub(super) const ANSWER: Duration = Duration::from_secs(120);
/// How soon a cancellation is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// The payload of an SSH packet.
const PACKET: usize = 32 << 10;
/// The most output of a command. Scripts print a line for each file of a release.
const OUTPUT: usize = 4 << 20;
/// The most error output that is kept.
const ERRORS: usize = 64 << 10;

pub(super) struct Session {
    pub(super) inner: ssh2::Session,
    socket: TcpStream,
    cancel: CancellationToken,
    /// An operation that is not complete is part of the session's state, so they take turns.
    turn: Mutex<()>,
}

/// The result of a command in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A deadline. Without one, only a cancellation ends the wait.
pub(super) type End = Option<Instant>;

impl Session {
    /// A session over a connection, before the handshake.
    pub(super) fn new(stream: TcpStream, cancel: &CancellationToken) -> io::Result<Session> {
        let socket = stream.try_clone()?;
        let mut inner = ssh2::Session::new()?;
        inner.set_blocking(false);
        inner.set_tcp_stream(stream);
        Ok(Session {
            inner,
            socket,
            cancel: cancel.clone(),
            turn: Mutex::default(),
        })
    }

    /// Repeats an operation of libssh2 until it is complete.
    pub(super) fn complete<T, E: Into<io::Error>>(
        &self,
        end: End,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> io::Result<T> {
        loop {
            match attempt().map_err(Into::into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(end)?,
                ended => return ended,
            }
        }
    }

    /// Fails if the run is cancelled or the time is over.
    fn check(&self, end: End) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Cancelled::during("waiting for a guest").into());
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "the guest did not answer in time",
            ));
        }
        Ok(())
    }

    /// Waits until libssh2 can continue, or a moment.
    fn wait(&self, end: End) -> io::Result<()> {
        self.check(end)?;
        let flags = match self.inner.block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
        let timeout = Timespec::try_from(left.min(LOOK)).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, command: &str) -> anyhow::Result<Channel> {
        let end = after(ANSWER);
        let mut channel = self
            .complete(end, || self.inner.channel_session())
            .context("failed to open a channel")?;
        self.complete(end, || channel.exec(command))
            .context("failed to run a command")?;
        Ok(channel)
    }

    /// Runs a command with `input` as its stdin, until it ends; what it did not read then is not sent.
    pub(super) fn exec(&self, command: &str, input: impl Read) -> anyhow::Result<Output> {
        self.exec_within(command, input, ANSWER)
    }

    /// [`Session::exec`] of a command that may take so long after its input.
    fn exec_within(
        &self,
        command: &str,
        input: impl Read,
        limit: Duration,
    ) -> anyhow::Result<Output> {
        let _turn = self.turn();
        let mut channel = self.open(command)?;
        let mut input = Input::new(input);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut end = after(limit);
        loop {
            self.check(end)?;
            let sent = input.send(&mut channel)?;
            if sent {
                end = after(limit);
            }
            let read = read(&mut channel, &mut stdout)? | read(&mut channel.stderr(), &mut stderr)?;
            ensure!(
                stdout.len() <= OUTPUT,
                "a command's output is longer than {} MiB",
                OUTPUT >> 20
            );
            stderr.truncate(ERRORS);
            if channel.eof() && is_closed(&mut channel)? {
                break;
            }
            if !sent && !read {
                self.wait(end)?;
            }
        }
        let status = self.status(&mut channel)?;
        ensure!(
            status != 0 || input.is_sent(),
            "the command ended before it read all of its input"
        );
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// The exit code of a command that ended.
    fn status(&self, channel: &mut Channel) -> anyhow::Result<i32> {
        // The command ended: only the channel's number would stay in use.
        let _ = self.complete(after(LOOK), || channel.close());
        if let Some(signal) = channel.exit_signal()?.exit_signal {
            bail!("a command in the guest was ended by the signal {signal}");
        }
        channel
            .exit_status()
            .context("the guest reported no exit code of a command")
    }

    /// Runs a script that must succeed; returns its stdout.
    pub(super) fn script(&self, what: &str, script: &str) -> anyhow::Result<String> {
        self.script_within(what, script, ANSWER)
    }

    /// [`Session::script`] with its own deadline.
    pub(super) fn script_within(
        &self,
        what: &str,
        script: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let output = self
            .exec_within("sh -s", wrapped(script).as_bytes(), limit)
            .with_context(|| format!("failed to {what}"))?;
        expect(what, output)
    }

    /// Runs a command with `input` that must succeed; returns its stdout.
    pub(super) fn feed(
        &self,
        what: &str,
        command: &str,
        input: impl Read,
    ) -> anyhow::Result<String> {
        let output = self
            .exec(command, input)
            .with_context(|| format!("failed to {what}"))?;
        expect(what, output)
    }

    /// Passes the stdout of a command to `line`, line by line, until the command ends or `line` returns false. Fails if
    /// the command does not end within `limit`.
    pub(super) fn lines(
        &self,
        command: &str,
        limit: Option<Duration>,
        mut line: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<()> {
        let _turn = self.turn();
        let mut channel = self.open(command)?;
        let end = limit.and_then(after);
        let (mut lines, mut stdout, mut stderr) = (Lines::default(), Vec::new(), Vec::new());
        loop {
            self.check(end)?;
            let read = read(&mut channel, &mut stdout)? | read(&mut channel.stderr(), &mut stderr)?;
            stderr.truncate(ERRORS);
            if !lines.split(&stdout, &mut line) {
                return Ok(());
            }
            stdout.clear();
            if channel.eof() && is_closed(&mut channel)? {
                break;
            }
            if !read {
                self.wait(end)?;
            }
        }
        let status = self.status(&mut channel)?;
        let stderr = String::from_utf8_lossy(&stderr);
        ensure!(status == 0, "exit code {status}: {}", stderr.trim());
        Ok(())
    }
}

pub(super) fn after(limit: Duration) -> End {
    Instant::now().checked_add(limit)
}

/// Reads what has arrived, one packet at most; says whether there was something.
fn read(from: &mut impl Read, to: &mut Vec<u8>) -> anyhow::Result<bool> {
    let mut packet = [0; PACKET];
    match from.read(&mut packet) {
        Ok(count) => {
            to.extend_from_slice(&packet[..count]);
            Ok(count > 0)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).context("failed to read a command's output"),
    }
}

/// Whether the remote end closed a channel, all of whose output was read.
fn is_closed(channel: &mut Channel) -> anyhow::Result<bool> {
    match channel.wait_close().map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).context("failed to wait for the end of a command"),
    }
}

/// A command's stdin, sent in packets.
struct Input<R> {
    from: R,
    packet: Vec<u8>,
    sent: usize,
    state: Sent,
}

#[derive(PartialEq)]
enum Sent {
    Some,
    /// All but the end of the input.
    Bytes,
    All,
}

impl<R: Read> Input<R> {
    fn new(from: R) -> Input<R> {
        Input {
            from,
            packet: Vec::new(),
            sent: 0,
            state: Sent::Some,
        }
    }

    fn is_sent(&self) -> bool {
        self.state == Sent::All
    }

    /// Sends what the channel takes, one packet at most; says whether it took something.
    fn send(&mut self, channel: &mut Channel) -> anyhow::Result<bool> {
        if self.state == Sent::Some && self.sent == self.packet.len() {
            (self.sent, self.packet) = (0, Vec::with_capacity(PACKET));
            let mut packet = self.from.by_ref().take(PACKET as u64);
            let read = packet.read_to_end(&mut self.packet);
            if read.context("failed to read the input of a command")? == 0 {
                self.state = Sent::Bytes;
            }
        }
        let taken = match self.state {
            Sent::Some => channel.write(&self.packet[self.sent..]),
            Sent::Bytes => channel.send_eof().map(|()| 0).map_err(io::Error::from),
            Sent::All => return Ok(false),
        };
        match taken {
            Ok(count) if self.state == Sent::Some => self.sent += count,
            Ok(_) => self.state = Sent::All,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("failed to send input to a command"),
        }
        Ok(true)
    }
}

/// Wraps a script in a function, so that the shell reads all of it first: a truncated script could do harm.
fn wrapped(script: &str) -> String {
    format!("main() {{\n{script}\n}}\nmain\n")
}

fn expect(what: &str, output: Output) -> anyhow::Result<String> {
    ensure!(
        output.status == 0,
        "failed to {what}: exit code {}: {}",
        output.status,
        output.stderr.trim()
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests;
