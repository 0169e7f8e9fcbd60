//! Process 1 of the initramfs: drivers, identity, network, root file system, sshd, systemd, in that order.
//!
//! Waits only for the root disk and sshd's socket. If a part of the identity fails, the console shows the error and the
//! boot continues, so that the console still offers a shell. Without a root file system, the guest panics with the
//! reason in the console's last line.

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::system::{finit_module, sethostname};

use crate::identity::Identity;
use crate::{disks, network, root, say, smbios, sshd};

/// Kernel modules of the initramfs; their names sort in the order in which to load them.
const DRIVERS: &str = "/drivers";
/// QEMU's firmware configuration, as the kernel's qemu_fw_cfg shows it.
const SECRETS: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/pspd";
const STATE: &str = "/run/pspd";
/// Exists if the disk is larger than the root file system; grow.service checks for it.
const GROW: &str = "/run/pspd/grow";
const NEW_ROOT: &str = "/sysroot";
/// An empty `libbpf.so.1`, which systemd finds before the real one of iproute2 and cannot load: it costs more than a second
/// of emulated time, for `RestrictNetworkInterfaces=` and `SocketBind*=` alone. Services do not see this variable.
const SHADOWED: &str = "/usr/lib/pspd/shadowed";

/// Returns only after an error: otherwise the process becomes systemd.
pub(crate) fn run() -> ExitCode {
    let Err(error) = boot();
    say(&format!("{error:#}"));
    ExitCode::FAILURE
}

fn boot() -> Result<std::convert::Infallible> {
    mount_kernel_file_systems()?;
    load_drivers()?;
    let identity = smbios::oem_strings()
        .and_then(|strings| Identity::from_strings(&strings)?.with_secrets(SECRETS))
        .unwrap_or_else(|error| {
            say(&format!("no identity: {error:#}"));
            Identity::default()
        });
    assume(&identity);
    let command_line =
        fs::read_to_string("/proc/cmdline").context("failed to read the kernel's command line")?;
    if command_line
        .split_whitespace()
        .any(|word| word == "pspd.floor=1")
    {
        return serve_floor();
    }
    said(disks::link_by_serial());
    root::mount(&command_line, NEW_ROOT, GROW)?;
    enter_new_root()?;
    if identity.host_key.is_some() {
        said(sshd::start_early(Duration::from_secs(10)));
    } else {
        say("no SSH: the firmware configuration has no `opt/pspd/ssh_host_ed25519_key`");
    }
    let error = Command::new("/usr/lib/systemd/systemd")
        .env_remove("HOME")
        .env("LD_LIBRARY_PATH", SHADOWED)
        .exec();
    Err(error).context("failed to execute systemd")
}

fn mount_kernel_file_systems() -> Result<()> {
    let secure = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, target, flags, data) in [
        (c"devtmpfs", "/dev", MountFlags::NOSUID, None),
        (c"proc", "/proc", secure, None),
        (c"sysfs", "/sys", secure, None),
        (
            c"tmpfs",
            "/run",
            MountFlags::NOSUID | MountFlags::NODEV,
            Some(c"mode=0755"),
        ),
    ] {
        fs::create_dir_all(target).with_context(|| format!("failed to create `{target}`"))?;
        mount(kind, target, kind, flags, data as Option<&CStr>)
            .with_context(|| format!("failed to mount `{target}`"))?;
    }
    Ok(())
}

fn load_drivers() -> Result<()> {
    let mut drivers: Vec<_> = fs::read_dir(DRIVERS)
        .with_context(|| format!("failed to list `{DRIVERS}`"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    drivers.sort();
    for driver in drivers {
        load(&driver.to_string_lossy())?;
    }
    Ok(())
}

fn load(driver: &str) -> Result<()> {
    let file = fs::File::open(driver).with_context(|| format!("failed to open `{driver}`"))?;
    finit_module(&file, c"", 0).with_context(|| format!("failed to load `{driver}`"))
}

/// Host name, network and the files in `/run/pspd`.
fn assume(identity: &Identity) {
    if let Some(name) = &identity.host_name {
        said(
            sethostname(name.as_bytes())
                .with_context(|| format!("failed to set host name `{name}`")),
        );
    }
    said(network::configure(identity.address, identity.gateway));
    let made = fs::DirBuilder::new()
        .mode(0o755)
        .create(STATE)
        .context("failed to create the state directory");
    said(made.and_then(|()| identity.write_files(STATE)));
}

fn said(outcome: Result<()>) {
    if let Err(error) = outcome {
        say(&format!("{error:#}"));
    }
}

/// Listens on SSH's port and does nothing else: the lower bound of a guest's boot time.
fn serve_floor() -> Result<std::convert::Infallible> {
    let listener = TcpListener::bind("0.0.0.0:22").context("failed to listen on port 22")?;
    loop {
        let (mut client, _) = listener.accept().context("failed to accept a connection")?;
        said(
            client
                .write_all(b"SSH-2.0-floor\r\n")
                .context("failed to answer"),
        );
    }
}

/// Makes the mounted root file system `/`, and moves the kernel's file systems there.
fn enter_new_root() -> Result<()> {
    for directory in ["dev", "proc", "sys", "run"] {
        mount_move(format!("/{directory}"), format!("{NEW_ROOT}/{directory}"))
            .with_context(|| format!("failed to move `/{directory}`"))?;
    }
    // The initramfs is in memory: free it.
    said(fs::remove_dir_all(DRIVERS).context("failed to empty the initramfs"));
    std::env::set_current_dir(NEW_ROOT).context("failed to enter the root file system")?;
    mount_move(".", "/").context("failed to move the root file system")?;
    rustix::process::chroot(".").context("failed to change the root")?;
    std::env::set_current_dir("/").context("failed to enter the root file system")
}
