//! Prepares the lab's namespaces before libvirtd starts: private files, the network, the firewall backend.
//!
//! All functions change the namespaces of the calling process, so only process 1 of a lab may call them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use pspd_model::hint::{Hint as _, Hinted};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use crate::daemon::Firewall;
use crate::host;

/// Directories of libvirtd, each with its name in the lab's directory.
const PRIVATE: [(&str, &str); 4] = [
    ("/etc/libvirt", "etc"),
    ("/var/lib/libvirt", "lib"),
    ("/var/cache/libvirt", "cache"),
    ("/var/log/libvirt", "log"),
];
const RUN: &str = "/run";
/// Where users keep images; stays visible in the lab.
const IMAGES: &str = "/var/lib/libvirt/images";

/// Returns the directory for libvirt's configuration in the lab's directory.
pub(super) fn configuration(dir: &Path) -> PathBuf {
    dir.join(PRIVATE[0].1)
}

/// Mounts private directories of `dir` over libvirt's directories, and new file systems over `/run` and `/sys`. `dir`,
/// `sockets` and the images keep their paths, even below a covered directory.
pub(super) fn make_private(dir: &Path, sockets: &Path) -> anyhow::Result<()> {
    let mut over = Vec::new();
    for (place, name) in PRIVATE {
        ensure!(
            Path::new(place).is_dir(),
            Hinted::new(
                format!("`{place}` does not exist"),
                "Install `libvirt-daemon-system`, or create the directory",
            )
        );
        let own = dir.join(name);
        create(&own)?;
        over.push((PathBuf::from(place), tree(&own)?));
    }
    for kept in [dir, sockets, Path::new(IMAGES)] {
        if covered(kept) && kept.is_dir() {
            over.push((kept.to_owned(), tree(kept)?));
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", RUN, "tmpfs", flags, c"mode=0755")
        .context("failed to mount a private `/run`")?;
    // libvirt keeps the lock files of consoles in it, as `/var/lock`.
    create(Path::new("/run/lock"))?;
    for (place, tree) in over {
        create(&place)?;
        put(tree, &place)?;
    }
    let flags = flags | MountFlags::NOEXEC;
    mount("sysfs", "/sys", "sysfs", flags, None)
        .context("failed to mount `/sys` for the lab's network")
        .hint("In a container, `/sys` must not be masked")?;
    Ok(())
}

fn covered(path: &Path) -> bool {
    PRIVATE
        .iter()
        .map(|(place, _)| *place)
        .chain([RUN])
        .any(|place| path.starts_with(place))
}

/// Creates a directory that all users can read: libvirt's dnsmasq drops its privileges. The lab's directory itself is
/// private.
fn create(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("failed to create directory `{}`", path.display()))
}

/// Clones the mounts at `path`, to attach them at another path. Recursive, because a user namespace must not reveal
/// files below a mount.
fn tree(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
        .with_context(|| format!("failed to clone the mount at `{}`", path.display()))
}

fn put(tree: OwnedFd, place: &Path) -> anyhow::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree.as_fd(), "", CWD, place, flags)
        .with_context(|| format!("failed to mount over `{}`", place.display()))
}

/// Sets up the loopback device and enables IP forwarding for guests.
pub(super) fn bring_up_network() -> anyhow::Result<()> {
    if !host::succeeds("ip", &["link", "set", "dev", "lo", "up"]) {
        bail!("failed to set up the lab's loopback device with `ip link set dev lo up`");
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        .context("failed to enable IP forwarding in the lab")
}

/// Chooses libvirt's firewall backend. The nftables backend fixes DHCP checksums with `tc ... action csum`, which some
/// kernels lack; its networks then fail to start. Tests libvirt's own filter on the loopback device.
pub(super) fn choose_firewall() -> (Firewall, Option<String>) {
    if host::find("nft").is_none() || tc_can_fix_checksums() {
        return (Firewall::Default, None);
    }
    let problem = "this kernel lacks `act_csum`, which libvirt's nftables backend needs";
    if host::find("iptables").is_some() {
        let note = format!("{problem}; the lab's networks use iptables");
        (Firewall::Iptables, Some(note))
    } else {
        let note = format!("{problem}. Install `iptables` if networks fail to start");
        (Firewall::Default, Some(note))
    }
}

fn tc_can_fix_checksums() -> bool {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let queue = host::succeeds("tc", &words("qdisc add dev lo root handle 2: htb"));
    let filter = "filter add dev lo prio 2 protocol ip parent 2: u32 match ip dport 68 ffff action csum ip and udp";
    let works = queue && host::succeeds("tc", &words(filter));
    if queue {
        host::succeeds("tc", &words("qdisc del dev lo root"));
    }
    works
}

/// Fails outside a lab, to protect the host's namespaces. A new network namespace has no address, not even on the
/// loopback device.
pub(super) fn ensure_alone() -> anyhow::Result<()> {
    let addresses =
        fs::read_to_string("/proc/net/fib_trie").context("failed to read `/proc/net/fib_trie`")?;
    ensure!(
        addresses.is_empty(),
        Hinted::new(
            "not in a new network namespace",
            "Run `pspd up` to start a lab"
        )
    );
    Ok(())
}
