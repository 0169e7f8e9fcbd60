//! Responds to the hypervisor while the guest runs: the power button, hot-plugged processors and disks, and time that
//! passed while the guest was paused.
//!
//! This replaces systemd-logind and udev, which cost seconds of boot time under emulation.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketType, bind, recv, socket};

use crate::clock::Clock;
use crate::{disks, say};

/// Kernel modules that are not needed before SSH.
const MODULES: [&str; 5] = [
    "button",
    "evdev",
    "pvpanic_mmio",
    "virtio_balloon",
    "virtio_rng",
];
/// How often the clock is looked at: each time in another part of the second. A restored machine also gets a new
/// generation id, which is an event.
const CLOCK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 730_000_000,
};
/// The kernel's own group of uevent messages.
const KERNEL_EVENTS: u32 = 1;

/// Runs until the unit is stopped.
pub(crate) fn run() -> Result<()> {
    let status = Command::new("modprobe")
        .arg("--all")
        .args(MODULES)
        .status()
        .context("failed to run `modprobe`")?;
    if !status.success() {
        say(&format!("failed to load some of {MODULES:?}"));
    }
    let events = kernel_events()?;
    online_processors();
    let mut button = fs::File::open(power_button()?).context("failed to open the power button")?;
    let (mut clock, mut reported) = (Clock::start(), false);
    loop {
        let mut ready = [
            PollFd::new(&button, PollFlags::IN),
            PollFd::new(&events, PollFlags::IN),
        ];
        poll(&mut ready, Some(&CLOCK)).context("failed to wait for events")?;
        clock = clock.and_then(|mut clock| clock.follow().map(|()| clock));
        if let Err(error) = &clock
            && !reported
        {
            say(&format!("the clock is not followed: {error:#}"));
            reported = true;
        }
        let [pressed, changed] = ready.map(|fd| !fd.revents().is_empty());
        if pressed && is_press(&mut button)? {
            power_off()?;
        }
        if changed {
            drain(&events)?;
            online_processors();
            disks::link_by_serial()?;
        }
    }
}

fn power_button() -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/class/input").context("failed to list input devices")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
        if name.trim() == "Power Button" && entry.file_name().to_string_lossy().starts_with("event")
        {
            return Ok(PathBuf::from("/dev/input").join(entry.file_name()));
        }
    }
    bail!("the machine has no ACPI power button")
}

/// Reads one `struct input_event`: two words of time, type, code, value.
fn is_press(button: &mut fs::File) -> Result<bool> {
    const EV_KEY: [u8; 2] = 1u16.to_ne_bytes();
    const KEY_POWER: [u8; 2] = 116u16.to_ne_bytes();
    let mut event = [0; 24];
    button
        .read_exact(&mut event)
        .context("failed to read the power button")?;
    Ok(
        event[16..18] == EV_KEY
            && event[18..20] == KEY_POWER
            && event[20..24] == 1i32.to_ne_bytes(),
    )
}

fn power_off() -> Result<()> {
    say("power button pressed: powering off");
    let status = Command::new("systemctl")
        .args(["--no-block", "poweroff"])
        .status()
        .context("failed to run `systemctl`")?;
    if !status.success() {
        bail!("`systemctl poweroff` failed: {status}");
    }
    Ok(())
}

fn kernel_events() -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::NETLINK,
        SocketType::RAW,
        Some(netlink::KOBJECT_UEVENT),
    )
    .context("failed to open the socket of kernel events")?;
    bind(socket.as_fd(), &SocketAddrNetlink::new(0, KERNEL_EVENTS))
        .context("failed to subscribe to kernel events")?;
    Ok(socket)
}

fn drain(events: &OwnedFd) -> Result<()> {
    let mut message = [0u8; 4096];
    loop {
        match recv(events.as_fd(), &mut message, RecvFlags::DONTWAIT) {
            // Lost messages do not matter: each one triggers a full check.
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error).context("failed to read kernel events"),
        }
    }
}

/// A hot-plugged processor stays off until it is turned on.
fn online_processors() {
    let Ok(processors) = fs::read_dir("/sys/devices/system/cpu") else {
        return;
    };
    for switch in processors
        .flatten()
        .map(|entry| entry.path().join("online"))
    {
        if fs::read_to_string(&switch).is_ok_and(|state| state.trim() == "0") {
            match fs::write(&switch, "1") {
                Ok(()) => say(&format!("turned on `{}`", switch.display())),
                Err(error) => say(&format!(
                    "failed to turn on `{}`: {error}",
                    switch.display()
                )),
            }
        }
    }
}
