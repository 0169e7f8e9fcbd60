//! Starts sshd before systemd runs, and later hands it over to systemd's `ssh.service`.
//!
//! ```text
//! process 1: sshd listens  ->  becomes systemd  ->  ssh.service: `guest sshd` moves it into the unit's control group
//! ```
//! The listener stays open and sessions continue. systemd adopts the process by its PID file (`Type=forking`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const SSHD: &str = "/usr/sbin/sshd";
/// As in sshd_config and ssh.service.
const PID_FILE: &str = "/run/sshd.pid";

/// An empty directory that sshd requires; ssh.service keeps it later.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// Starts sshd in the foreground of process 1, and returns when it listens or after `deadline`.
pub(crate) fn start_early(deadline: Duration) -> Result<()> {
    fs::create_dir(PRIVILEGE_SEPARATION)
        .with_context(|| format!("failed to create `{PRIVILEGE_SEPARATION}`"))?;
    Command::new(SSHD)
        .arg("-D")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to start `{SSHD}`"))?;
    let start = Instant::now();
    while !Path::new(PID_FILE).exists() {
        if start.elapsed() > deadline {
            bail!("`{SSHD}` does not listen after {deadline:?}");
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Moves the running listener into the calling unit's control group, or starts one.
pub(crate) fn take_over() -> Result<()> {
    match running() {
        Some(listener) => adopt(&listener),
        None => start(),
    }
}

fn running() -> Option<String> {
    let listener = fs::read_to_string(PID_FILE).ok()?.trim().to_owned();
    let name = fs::read_to_string(format!("/proc/{listener}/comm")).ok()?;
    (name.trim() == "sshd").then_some(listener)
}

fn adopt(listener: &str) -> Result<()> {
    let own =
        fs::read_to_string("/proc/self/cgroup").context("failed to read the own control group")?;
    let group = own
        .trim()
        .strip_prefix("0::")
        .context("control groups are not version 2")?;
    let members = format!("/sys/fs/cgroup{group}/cgroup.procs");
    fs::write(&members, listener)
        .with_context(|| format!("failed to move sshd `{listener}` into `{group}`"))
}

/// Without `-D` sshd returns once it listens.
fn start() -> Result<()> {
    let status = Command::new(SSHD)
        .status()
        .with_context(|| format!("failed to start `{SSHD}`"))?;
    if !status.success() {
        bail!("`{SSHD}` failed: {status}");
    }
    Ok(())
}
