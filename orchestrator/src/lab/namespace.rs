//! Inside the lab's namespaces, before libvirtd starts: private files, devices of its own, the firewall backend.
//!
//! Everything here acts on the calling process's namespaces, so only process 1 of a lab may call it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::daemon::Firewall;
use super::host;

/// Directories of libvirtd, each with its place in the lab's directory.
const PRIVATE: [(&str, &str); 4] = [
    ("/etc/libvirt", "etc"),
    ("/var/lib/libvirt", "lib"),
    ("/var/cache/libvirt", "cache"),
    ("/var/log/libvirt", "log"),
];
const RUN: &str = "/run";
/// Where people keep images, whatever becomes of libvirt's own files beside it.
const IMAGES: &str = "/var/lib/libvirt/images";

/// Where libvirt's configuration is written, in the lab's directory.
pub(super) fn configuration(dir: &Path) -> PathBuf {
    dir.join(PRIVATE[0].1)
}

/// Covers libvirt's directories with those of `dir`, and `/run` and `/sys` with fresh ones. `dir`, `sockets` and the
/// images keep their paths, even below a directory that is covered.
pub(super) fn make_private(dir: &Path, sockets: &Path) -> anyhow::Result<()> {
    let mut over = Vec::new();
    for (place, name) in PRIVATE {
        ensure!(
            Path::new(place).is_dir(),
            "`{place}` is missing: install `libvirt-daemon-system` (or make the directory)"
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
    mount("tmpfs", RUN, "tmpfs", flags, c"mode=0755").context("mount a private `/run`")?;
    // libvirt keeps a console's lock file there, as `/var/lock`.
    create(Path::new("/run/lock"))?;
    for (place, tree) in over {
        create(&place)?;
        put(tree, &place)?;
    }
    let flags = flags | MountFlags::NOEXEC;
    mount("sysfs", "/sys", "sysfs", flags, None)
        .context("mount `/sys` of the lab's network (in a container, `/sys` must not be masked)")?;
    Ok(())
}

fn covered(path: &Path) -> bool {
    PRIVATE
        .iter()
        .map(|(place, _)| *place)
        .chain([RUN])
        .any(|place| path.starts_with(place))
}

/// Readable by all: libvirt's dnsmasq drops its privileges. `dir` itself is closed to others.
fn create(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("make directory `{}`", path.display()))
}

/// The mounts at `path`, to be put elsewhere. Recursive, because a user namespace may not uncover what is below.
fn tree(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).with_context(|| format!("clone the mount at `{}`", path.display()))
}

fn put(tree: OwnedFd, place: &Path) -> anyhow::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree.as_fd(), "", CWD, place, flags)
        .with_context(|| format!("mount over `{}`", place.display()))
}

/// Brings the loopback device up and lets guests be routed.
pub(super) fn bring_up_network() -> anyhow::Result<()> {
    if !host::succeeds("ip", &["link", "set", "dev", "lo", "up"]) {
        bail!("bring up the lab's loopback device with `ip link set dev lo up`");
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the lab's network forward")
}

/// libvirt's nftables backend mends DHCP checksums with `tc ... action csum`, which not every kernel has: its networks
/// then fail to start. Tries that on the loopback device, with libvirt's own filter.
pub(super) fn choose_firewall() -> (Firewall, Option<String>) {
    if host::find("nft").is_none() || tc_mends_checksums() {
        return (Firewall::Default, None);
    }
    let problem = "this kernel has no `act_csum` for libvirt's nftables backend";
    if host::find("iptables").is_some() {
        let note = format!("{problem}: the lab's networks use iptables");
        (Firewall::Iptables, Some(note))
    } else {
        let note = format!("{problem}: install `iptables` if networks fail to start");
        (Firewall::Default, Some(note))
    }
}

fn tc_mends_checksums() -> bool {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let queue = host::succeeds("tc", &words("qdisc add dev lo root handle 2: htb"));
    let filter = "filter add dev lo prio 2 protocol ip parent 2: u32 match ip dport 68 ffff action csum ip and udp";
    let works = queue && host::succeeds("tc", &words(filter));
    if queue {
        host::succeeds("tc", &words("qdisc del dev lo root"));
    }
    works
}

/// Fails outside of a lab: nothing here may touch the host's own namespaces. A new network namespace has no address,
/// not even a loopback one.
pub(super) fn ensure_alone() -> anyhow::Result<()> {
    let addresses =
        fs::read_to_string("/proc/net/fib_trie").context("read `/proc/net/fib_trie`")?;
    ensure!(
        addresses.is_empty(),
        "not in a network namespace of its own: a lab is started by `pspd up`"
    );
    Ok(())
}
