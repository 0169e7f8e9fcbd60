//! Reads a domain's system disk and volumes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::Node;
use super::is_plain;
use crate::spec::{Name, RELEASE_DISK, Size, VolumeSpec};

const SYSTEM_DISK: Size = Size::gib(4);
/// Less has no room for a file system with a journal.
const LEAST_DISK: Size = Size::mib(4);
/// ext4 with blocks of 4 KiB ends at 16 TiB, and so do the files of most hosts.
const MOST_DISK: Size = Size::gib(8 << 10);
/// The maximum length of a disk's serial number in QEMU. The guest finds the disk by it.
const LONGEST_VOLUME: usize = 20;
/// The serial numbers of other disks of a domain.
const RESERVED: [&str; 2] = ["seed", RELEASE_DISK];

/// Linux's limit for one name; more than any mount point needs.
const LONGEST_MOUNT_POINT: usize = 255;
/// Folders of the guest's system and of pspd, without the first slash: neither they nor anything in them is a mount point.
const SYSTEM_TREES: [&str; 33] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "lost+found",
    // Of the releases.
    "opt/pspd",
    "proc",
    // With the keys that let pspd in.
    "root",
    "run",
    "sbin",
    "sys",
    "usr",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/private",
    "var/lib/apt",
    "var/lib/cloud",
    "var/lib/dbus",
    "var/lib/dpkg",
    "var/lib/pam",
    "var/lib/private",
    "var/lib/pspd",
    "var/lib/sudo",
    "var/lib/systemd",
    // A link to `/run/lock`.
    "var/lock",
    "var/log/journal",
    "var/log/private",
    // A link to `/run`.
    "var/run",
    "var/spool/cron",
];
/// Folders that others use, too. A folder in one can be a mount point.
const SYSTEM: [&str; 12] = [
    "home",
    "media",
    "mnt",
    "opt",
    "srv",
    "tmp",
    "var",
    "var/cache",
    "var/lib",
    "var/log",
    "var/spool",
    "var/tmp",
];

pub(super) fn disks(reader: &Reader, fields: &Fields) -> (Size, Vec<VolumeSpec>) {
    let entries = fields
        .get("disks")
        .and_then(|node| reader.entries(node, "disks"))
        .unwrap_or_default();
    let mut system = SYSTEM_DISK;
    let mut volumes: Vec<VolumeSpec> = Vec::new();
    let mut mounts: BTreeMap<PathBuf, Name> = BTreeMap::new();
    for (key, node) in entries {
        if key.name == "system" {
            system = disk_size(reader, node, "the system disk's size").unwrap_or(system);
            continue;
        }
        let name = reader.name(&key.name, key.at);
        let reserved = RESERVED.contains(&key.name.as_str());
        if key.name.len() > LONGEST_VOLUME || reserved {
            let reason = if reserved {
                "is reserved"
            } else {
                "is too long"
            };
            reader.fault(
                Fault::new(key.at, format!("the volume name `{}` {reason}", key.name)).help(
                    format!("use another name of at most {LONGEST_VOLUME} characters"),
                ),
            );
        }
        if let Some((name, volume)) = name.zip(volume(reader, node)) {
            if let Some(other) = mounts.insert(volume.1.clone(), name.clone()) {
                reader.fault(Fault::new(
                    key.at,
                    format!("`{name}` has the same mount point as `{other}`"),
                ));
            }
            volumes.push(VolumeSpec {
                name,
                size: volume.0,
                mount: volume.1,
            });
        }
    }
    (system, volumes)
}

fn volume(reader: &Reader, node: &Node) -> Option<(Size, PathBuf)> {
    let own = reader.object(node, node.at, &keys::VOLUME)?;
    let size = own
        .get("size")
        .and_then(|node| disk_size(reader, node, "size"));
    let mount = own
        .get("mount")
        .and_then(|node| reader.parsed(node, "mount", mount_point));
    Some((size?, mount?))
}

/// Reads the size of a disk that a guest can use.
fn disk_size(reader: &Reader, node: &Node, what: &str) -> Option<Size> {
    let size = reader.size(node, what)?;
    let fault = if size < LEAST_DISK {
        format!("{size} is too small for a file system; use at least {LEAST_DISK}")
    } else if size > MOST_DISK {
        format!("{size} is more than a guest's file system can have; use at most {MOST_DISK}")
    } else {
        return Some(size);
    };
    reader.fault(Fault::new(node.at, fault));
    None
}

/// Reads the mount point of a volume: an absolute path without characters that need quoting. The service's user gets
/// all that is in it, and it hides what the image has there.
fn mount_point(text: &str) -> Result<PathBuf, String> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(format!("`{text}` is not an absolute path"));
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    if text.len() > LONGEST_MOUNT_POINT
        || (!path.is_empty() && !parts.iter().all(|part| is_plain(part)))
    {
        return Err(format!(
            "`{text}` is not an absolute path of letters, digits and ._- between single slashes, of at most \
             {LONGEST_MOUNT_POINT} characters"
        ));
    }
    // By whole names: `Path` compares components.
    let within = |tree: &&str| Path::new(path).starts_with(tree);
    if path.is_empty() || SYSTEM.contains(&path) || SYSTEM_TREES.iter().any(within) {
        return Err(format!(
            "`{text}` belongs to the guest's system; write it like `/var/lib/data` or `/srv/data`"
        ));
    }
    Ok(PathBuf::from(format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_a_folder_of_its_own() {
        for good in [
            "/data",
            "/data/",
            "/var/lib/store",
            "/srv/a.b/c_d-e",
            "/var/log/store",
            "/home/store",
            "/opt/store",
            "/etcetera",
            "/opt/pspd-data",
            "/rooted",
            "/var/lib/systemd-data",
            "/var/lib/postgresql",
            "/var/spool/mail",
        ] {
            let mount = mount_point(good).unwrap();
            assert_eq!(mount.to_str(), Some(good.trim_end_matches('/')), "{good}");
        }
        let long = format!("/{}", "a".repeat(255));
        for bad in [
            "",
            "/",
            "//",
            "///",
            "/.",
            "/./",
            "/..",
            "/a/..",
            "/a/./b",
            "/a//b",
            "//a",
            "/a//",
            "/data/.",
            "/etc",
            "/etc/",
            "/etc/.",
            "//etc",
            "/etc/data",
            "/usr",
            "/usr/lib",
            "/usr/local/data",
            "/var",
            "/var/",
            "/var/lib",
            "/var/log",
            "/var/tmp",
            "/tmp",
            "/bin",
            "/sbin/x",
            "/lib",
            "/lib64",
            "/boot",
            "/dev/shm",
            "/proc/1",
            "/run/data",
            "/sys",
            "/root",
            "/opt",
            "/opt/pspd",
            "/opt/pspd/",
            "/opt/pspd/web",
            "/opt/pspd/web/releases",
            "/root/.ssh",
            "/root/data",
            "/var/run/sshd",
            "/var/lock/store",
            "/var/lib/dpkg",
            "/var/lib/dpkg/info",
            "/var/lib/systemd",
            "/var/lib/cloud",
            "/var/lib/pspd",
            "/var/log/journal",
            "/home",
            "data",
            "./data",
            "/a b",
            "/a\tb",
            "/a%b",
            "/a$b",
            "/a\\b",
            "/ä",
            &long,
        ] {
            assert!(mount_point(bad).is_err(), "{bad:?}");
        }
    }
}
