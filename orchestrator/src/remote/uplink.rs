//! A host's end of the network over several hosts: a tap device on the lab's bridge, and this process's standard input and
//! output, which lead through SSH to the switch.

use std::fs;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::frames::{Frame, LONGEST};
use crate::{terminal, tool};

/// The first line that it prints, once it is on the bridge.
pub(super) const READY: &str = "pspd uplink 1\n";
/// What it ends with when a later one took its place.
pub(super) const REPLACED: &str = "another connection of this deployment took its place";
/// One for each lab: with two, frames could go round in a circle.
const TAP: &str = "pspd-uplink";
const INTERFACES: &str = "/sys/class/net";
/// From one look for what is not there yet to the next.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it looks whether the tap is on the bridge.
const LOOK: Duration = Duration::from_secs(1);
/// Of a stream, in bytes.
const BUFFER: usize = 256 << 10;

/// Waits for what a lab has only after a part of `up`, as long as the sender is there: nothing comes before [`READY`].
pub(crate) fn wait_for<T>(mut find: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(found) = find()? {
            return Ok(found);
        }
        let stdin = std::io::stdin();
        let mut input = [PollFd::new(&stdin, PollFlags::IN)];
        let limit = Timespec::try_from(AGAIN)?;
        if poll(&mut input, Some(&limit))? > 0 {
            bail!("the connection ended before the lab had a network");
        }
    }
}

/// Passes frames until the input ends, or the bridge or the tap is gone. Must run in the lab's namespaces; threads are
/// left, which only the end of the process ends.
pub(crate) fn run() -> Result<()> {
    let bridge = wait_for(bridge)?;
    let tap = Arc::new(attach(&bridge)?);
    let mut out = terminal::raw();
    out.write_all(READY.as_bytes())?;
    out.flush()?;
    let (end, ended) = channel();
    let parts: [fn(&SyncDevice) -> Result<()>; 3] = [
        |tap| to_lab(std::io::stdin(), tap),
        |tap| from_lab(tap, terminal::raw()),
        |_| watch(),
    ];
    for part in parts {
        let (end, tap) = (end.clone(), Arc::clone(&tap));
        // Nobody waits for what ends after the first.
        thread::spawn(move || _ = end.send(part(&tap)));
    }
    ended.recv().context("all threads panicked")?
}

/// The bridge of the lab's network, of which it has one.
fn bridge() -> Result<Option<String>> {
    for entry in fs::read_dir(INTERFACES)? {
        let entry = entry?;
        if entry.path().join("bridge").is_dir() {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// Creates the tap on the bridge, in the place of that of an earlier connection.
fn attach(bridge: &str) -> Result<SyncDevice> {
    if own_interface().exists() {
        ip(&["link", "delete", TAP])?;
    }
    let tap = DeviceBuilder::new()
        .name(TAP)
        .layer(Layer::L2)
        .offload(true)
        .build_sync()
        .context("failed to create a tap device")?;
    ip(&["link", "set", TAP, "master", bridge, "up"])?;
    Ok(tap)
}

fn own_interface() -> PathBuf {
    Path::new(INTERFACES).join(TAP)
}

fn ip(words: &[&str]) -> Result<()> {
    tool::run(Command::new("ip").args(words), "iproute2", b"")
}

fn to_lab(from: impl Read, tap: &SyncDevice) -> Result<()> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    while let Some(frame) = Frame::read(&mut from)? {
        if !frame.is_dhcp() {
            // The kernel refuses what is no packet; the next one may be.
            let _refused = tap.send(frame.packet());
        }
    }
    Ok(())
}

/// Passes frames of the lab on, and flushes when no other waits.
fn from_lab(tap: &SyncDevice, to: impl Write) -> Result<()> {
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let mut packet = vec![0; LONGEST];
    loop {
        let length = tap.recv(&mut packet).context(REPLACED)?;
        let frame = Frame::of(&packet[..length]).filter(|frame| !frame.is_dhcp());
        if let Some(frame) = frame {
            frame.write(&mut to)?;
        }
        let mut waiting = [PollFd::new(tap, PollFlags::IN)];
        if poll(&mut waiting, Some(&Timespec::default()))? == 0 {
            to.flush()?;
        }
    }
}

/// Waits until the tap is no longer on a bridge.
fn watch() -> Result<()> {
    while own_interface().join("master").exists() {
        thread::sleep(LOOK);
    }
    match own_interface().exists() {
        true => bail!("the lab's network was removed"),
        false => bail!(REPLACED),
    }
}
