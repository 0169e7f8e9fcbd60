//! Captures of a deployment's network: what `tcpdump` sees on its bridge, as a pcapng file with the names of the guests.
//!
//! ```text
//! tcpdump (in the lab) ── pcap ──► Capture::write ── pcapng ──► the file
//! ```
//! With TLS keys, the packets wait in a temporary file for the keys, which are known when the capture ends.

mod pcapng;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use pspd_model::hint::Hinted;
use pspd_model::spec::Mac;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio_util::sync::CancellationToken;

use self::pcapng::{Head, convert};
use crate::reach::Reach;

/// How soon the end of a capture is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// The length of a pcap file's header in bytes.
const PCAP_HEADER: usize = 24;

/// What is captured.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The network's bridge.
    pub bridge: String,
    /// Only what these guests send or receive; all, if there are none.
    pub macs: Vec<Mac>,
    /// pcap-filter(7).
    pub filter: Option<String>,
    /// The names of guests, which readers show in place of addresses.
    pub names: BTreeMap<Ipv4Addr, String>,
}

/// A capture that began.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    /// What it says of its work.
    said: File,
    wanted: Wanted,
}

/// What was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    pub packets: u64,
    /// Packets that the host's kernel had no room for.
    pub dropped: u64,
}

/// When a capture ends.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// After this time, if there is a limit.
    pub limit: Option<Duration>,
    /// When it is cancelled.
    pub cancel: &'a CancellationToken,
}

impl Capture {
    pub fn start(reach: &Reach, wanted: Wanted) -> anyhow::Result<Capture> {
        let mut argv = vec!["tcpdump".to_owned()];
        // In a user namespace there is no other user to change to.
        let options = [
            "-i",
            &wanted.bridge,
            "-Z",
            "root",
            "-U",
            // Otherwise the kernel keeps packets for up to a second, and those of the last second are lost.
            "--immediate-mode",
            "-n",
            "-w",
            "-",
            "--",
        ];
        argv.extend(options.map(str::to_owned));
        argv.extend(expression(&wanted.macs, wanted.filter.as_deref()));
        let mut command = match reach {
            Reach::Lab(lab) => lab.enter(&argv)?,
            Reach::Direct => {
                let mut command = Command::new(&argv[0]);
                command.args(&argv[1..]);
                command
            }
        };
        let said = tempfile::tempfile().context("failed to create a temporary file")?;
        let tcpdump = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?)
            // `nsenter` passes no signals on.
            .process_group(0)
            .spawn()
            .context("failed to run `tcpdump`")?;
        Ok(Capture {
            tcpdump,
            said,
            wanted,
        })
    }

    /// Writes packets until the end. Calls `began` when packets are seen from now on.
    pub fn write(
        self,
        to: impl Write,
        end: End<'_>,
        began: impl FnOnce(),
    ) -> anyhow::Result<Captured> {
        let wanted = self.wanted.clone();
        let head = Head {
            wanted: &wanted,
            keys: "",
        };
        let (packets, dropped) = self.copy(end, |packets| convert(packets, to, head, began))?;
        Ok(Captured { packets, dropped })
    }

    /// Like [`Self::write`], with the TLS keys that `keys` returns when the capture ended, as the lines of a key log. Readers
    /// need them before the packets, which therefore wait in the empty file `spool`.
    pub fn write_with_keys(
        self,
        to: impl Write,
        mut spool: File,
        end: End<'_>,
        began: impl FnOnce(),
        keys: impl FnOnce() -> String,
    ) -> anyhow::Result<Captured> {
        let wanted = self.wanted.clone();
        let ((), dropped) = self.copy(end, |packets| keep(packets, &mut spool, began))?;
        let keys = keys();
        spool.seek(SeekFrom::Start(0)).context(SPOOLING)?;
        let head = Head {
            wanted: &wanted,
            keys: &keys,
        };
        let packets = convert(spool, to, head, || ())?.unwrap_or(0);
        Ok(Captured { packets, dropped })
    }

    /// Passes what `tcpdump` captures to `copy` until the end, and returns its result with the number of packets that the host
    /// dropped. `copy` returns `None` if nothing came, not even the header of a capture.
    fn copy<T>(
        mut self,
        End { limit, cancel }: End<'_>,
        copy: impl FnOnce(ChildStdout) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<(T, u64)> {
        let group = Pid::from_raw(self.tcpdump.id().cast_signed());
        let group = group.context("tcpdump has no process id")?;
        let packets = self
            .tcpdump
            .stdout
            .take()
            .context("tcpdump has no stdout")?;
        let started = Instant::now();
        let copied = std::thread::scope(|threads| {
            let tcpdump = &mut self.tcpdump;
            threads.spawn(move || {
                let is_over = || limit.is_some_and(|limit| started.elapsed() >= limit);
                while matches!(tcpdump.try_wait(), Ok(None)) {
                    if cancel.is_cancelled() || is_over() {
                        // It may have ended meanwhile.
                        let _ = kill_process_group(group, Signal::INT);
                    }
                    std::thread::sleep(LOOK);
                }
            });
            let copied = copy(packets);
            if copied.is_err() {
                let _ = kill_process_group(group, Signal::INT);
            }
            copied
        })?;
        let said = said(&mut self.said)?;
        match copied {
            Some(copied) => Ok((copied, dropped(&said))),
            None => Err(refused(&said, self.wanted.filter.as_deref())),
        }
    }
}

const SPOOLING: &str = "failed to keep packets in a temporary file";

/// Copies a capture as it is; returns `None` if not even its header came.
fn keep(mut from: impl Read, to: &mut File, began: impl FnOnce()) -> anyhow::Result<Option<()>> {
    let mut header = [0; PCAP_HEADER];
    match from.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        header => header.context("failed to read what `tcpdump` captured")?,
    }
    began();
    to.write_all(&header).context(SPOOLING)?;
    io::copy(&mut from, to).context(SPOOLING)?;
    Ok(Some(()))
}

fn said(file: &mut File) -> anyhow::Result<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(64 << 10).read_to_string(&mut text)?;
    Ok(text)
}

/// The error of a `tcpdump` that captured nothing, by what it printed.
fn refused(said: &str, filter: Option<&str>) -> anyhow::Error {
    if said.contains("No such file or directory") || said.is_empty() {
        let message = "failed to capture: this host has no `tcpdump`";
        return Hinted::new(message, "Install the package `tcpdump`").into();
    }
    anyhow!("failed to capture: {}", reason(said, filter))
}

fn reason(said: &str, filter: Option<&str>) -> String {
    let lines = said
        .lines()
        .filter_map(|line| line.strip_prefix("tcpdump: "));
    let faults = lines.filter(|line| !line.starts_with("listening on"));
    let faults: Vec<&str> = faults.collect();
    if faults.is_empty() {
        return said.trim().to_owned();
    }
    let faults = faults.join("; ");
    match filter.filter(|_| faults.contains("filter expression")) {
        Some(filter) => format!("`{filter}` is not valid for pcap-filter(7): {faults}"),
        None => faults,
    }
}

/// `tcpdump` counts at its end.
fn dropped(said: &str) -> u64 {
    let mut counts = said.lines().filter_map(|line| {
        let count = line.strip_suffix(" packets dropped by kernel")?;
        count.parse().ok()
    });
    counts.next().unwrap_or(0)
}

/// What guests send or receive, and what the filter lets through.
fn expression(macs: &[Mac], filter: Option<&str>) -> Option<String> {
    let hosts: Vec<String> = macs.iter().map(|mac| format!("ether host {mac}")).collect();
    let hosts = (!hosts.is_empty()).then(|| hosts.join(" or "));
    match (hosts, filter) {
        (Some(hosts), Some(filter)) => Some(format!("({hosts}) and ({filter})")),
        (Some(one), None) => Some(one),
        (None, filter) => filter.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::told;

    #[test]
    fn what_tcpdump_says_becomes_the_error() {
        for (said, expected) in [
            (
                "tcpdump: syntax error in filter expression\n",
                "`tcp port 80` is not valid for pcap-filter(7): syntax error in filter expression",
            ),
            (
                "nsenter: failed to execute tcpdump: No such file or directory\n",
                "this host has no `tcpdump`. Install the package `tcpdump`",
            ),
            (
                "tcpdump: virbr0: You don't have permission to perform this capture on that device\n(socket: Operation not permitted)\n",
                "virbr0: You don't have permission to perform this capture on that device",
            ),
        ] {
            let error = told(&refused(said, Some("tcp port 80")));
            assert_eq!(error, format!("failed to capture: {expected}"));
        }
        let said = "tcpdump: listening on virbr0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n\
            7 packets captured\n9 packets received by filter\n2 packets dropped by kernel\n";
        assert_eq!(dropped(said), 2);
    }

    #[test]
    fn guests_and_filter_must_both_match() {
        let mac = |last| Mac([0x52, 0x54, 0, 0, 0, last]);
        let filter = Some("port 1 or port 2");
        assert_eq!(expression(&[], None), None);
        assert_eq!(expression(&[], filter).as_deref(), filter);
        assert_eq!(
            expression(&[mac(1)], None).as_deref(),
            Some("ether host 52:54:00:00:00:01")
        );
        assert_eq!(
            expression(&[mac(1), mac(2)], filter).as_deref(),
            Some(
                "(ether host 52:54:00:00:00:01 or ether host 52:54:00:00:00:02) and (port 1 or port 2)"
            )
        );
    }
}
