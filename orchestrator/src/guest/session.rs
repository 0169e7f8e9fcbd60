//! One SSH session over libssh2. The only file, with `connect`, that knows it.

use std::io::{self, Read, Write};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// For anything that the other side does at once; an emulated guest that boots is slow.
pub(super) const ANSWER: Duration = Duration::from_secs(120);

pub(super) struct Session {
    pub(super) inner: ssh2::Session,
}

/// What an SSH packet carries.
const PACKET: usize = 32 << 10;

/// What a command in the guest left.
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
        // A command that ended early has said why; its words are better than "broken pipe".
        let sent = send(&mut channel, &mut input);
        if sent.is_err() {
            // Without it a command whose input broke off, because the run is cancelled, would wait for the rest.
            let _ = channel.send_eof();
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        channel
            .read_to_end(&mut stdout)
            .context("failed to read a command's output")?;
        channel
            .stderr()
            .read_to_end(&mut stderr)
            .context("failed to read a command's errors")?;
        channel.wait_close().context("failed to end a command")?;
        let status = channel
            .exit_status()
            .context("a command left no exit code")?;
        if status == 0 {
            sent.context("failed to send a command its input")?;
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// Runs a script that must succeed; gives its stdout.
    pub(super) fn script(&self, what: &str, script: &str) -> anyhow::Result<String> {
        let output = self
            .exec("sh -s", whole(script).as_bytes())
            .with_context(|| format!("failed to {what}"))?;
        expect(what, output)
    }

    /// Runs a command that takes `input` and must succeed; gives its stdout.
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

    /// Gives a long command's stdout line by line until it or the receiver ends, or nothing comes for `patience`.
    pub(super) fn lines(
        &self,
        command: &str,
        patience: Option<Duration>,
        mut line: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut channel = self
            .inner
            .channel_session()
            .context("failed to open a channel")?;
        channel.exec(command).context("failed to run a command")?;
        let patience = patience.map_or(0, |patience| patience.as_millis());
        self.inner
            .set_timeout(u32::try_from(patience).unwrap_or(u32::MAX));
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

/// A script of which the shell runs nothing before it has read all: half of one could do harm.
fn whole(script: &str) -> String {
    format!("main() {{\n{script}\n}}\nmain\n")
}

/// Gives a command all of its input, in blocks that fill an SSH packet.
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
