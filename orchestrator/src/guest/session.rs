//! An SSH session over libssh2. Only this file and `connect` use libssh2.

use std::io::{self, Read, Write};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// The deadline for an immediate answer of the guest, which is slow while it boots under emulation.
pub(super) const ANSWER: Duration = Duration::from_secs(120);

pub(super) struct Session {
    pub(super) inner: ssh2::Session,
}

/// The payload of an SSH packet.
const PACKET: usize = 32 << 10;

/// The result of a command in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Session {
    /// Runs a command with `input` as its stdin.
    pub(super) fn exec(&self, command: &str, mut input: impl Read) -> anyhow::Result<Output> {
        let mut channel = self
            .inner
            .channel_session()
            .context("failed to open a channel")?;
        channel.exec(command).context("failed to run a command")?;
        // If a command ends early, its error message is better than "broken pipe".
        let sent = send(&mut channel, &mut input);
        if sent.is_err() {
            // Otherwise, after a cancelled run, the command would wait for the rest of its input.
            let _ = channel.send_eof();
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        channel
            .read_to_end(&mut stdout)
            .context("failed to read a command's output")?;
        channel
            .stderr()
            .read_to_end(&mut stderr)
            .context("failed to read a command's error output")?;
        channel
            .wait_close()
            .context("failed to wait for the end of a command")?;
        let status = channel
            .exit_status()
            .context("the guest reported no exit code of a command")?;
        if status == 0 {
            sent.context("failed to send input to a command")?;
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// Runs a script that must succeed; returns its stdout.
    pub(super) fn script(&self, what: &str, script: &str) -> anyhow::Result<String> {
        let output = self
            .exec("sh -s", wrapped(script).as_bytes())
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
    /// there is no output for `limit`.
    pub(super) fn lines(
        &self,
        command: &str,
        limit: Option<Duration>,
        mut line: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut channel = self
            .inner
            .channel_session()
            .context("failed to open a channel")?;
        channel.exec(command).context("failed to run a command")?;
        let limit = limit.map_or(0, |limit| limit.as_millis());
        self.inner
            .set_timeout(u32::try_from(limit).unwrap_or(u32::MAX));
        let mut reader = io::BufReader::new(channel);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if io::BufRead::read_until(&mut reader, b'\n', &mut bytes)
                .context("failed to read a command's output")?
                == 0
            {
                return Ok(());
            }
            if !line(String::from_utf8_lossy(&bytes).trim_end()) {
                return Ok(());
            }
        }
    }
}

/// Wraps a script in a function, so that the shell reads all of it first: a truncated script could do harm.
fn wrapped(script: &str) -> String {
    format!("main() {{\n{script}\n}}\nmain\n")
}

/// Sends all input to a command, in blocks of the size of an SSH packet.
fn send(channel: &mut ssh2::Channel, input: &mut impl Read) -> io::Result<()> {
    let mut blocks = io::BufWriter::with_capacity(PACKET, channel);
    io::copy(input, &mut blocks)?;
    blocks.flush()?;
    let channel = blocks
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok(channel.send_eof()?)
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
