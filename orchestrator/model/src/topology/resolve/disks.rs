//! Reads a domain's system disk and volumes.

use std::path::PathBuf;

use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::Node;
use crate::spec::{Size, VolumeSpec};

const SYSTEM_DISK: Size = Size::gib(4);
/// The maximum length of a disk's serial number in QEMU. The guest finds the disk by it.
const LONGEST_VOLUME: usize = 20;

pub(super) fn disks(reader: &Reader, fields: &Fields) -> (Size, Vec<VolumeSpec>) {
    let entries = fields
        .get("disks")
        .and_then(|node| reader.entries(node, "disks"))
        .unwrap_or_default();
    let mut system = SYSTEM_DISK;
    let mut volumes: Vec<VolumeSpec> = Vec::new();
    for (key, node) in entries {
        if key.name == "system" {
            system = reader
                .size(node, "the system disk's size")
                .unwrap_or(system);
            continue;
        }
        let name = reader.name(&key.name, key.at);
        if key.name.len() > LONGEST_VOLUME || key.name == "seed" {
            let reason = if key.name == "seed" {
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
            if let Some(other) = volumes.iter().find(|other| other.mount == volume.1) {
                reader.fault(Fault::new(
                    key.at,
                    format!("`{}` has the same mount point as `{}`", name, other.name),
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
    let size = own.get("size").and_then(|node| reader.size(node, "size"));
    let mount = own
        .get("mount")
        .and_then(|node| reader.parsed(node, "mount", guest_path));
    Some((size?, mount?))
}

/// Reads an absolute path for the guest's units, without characters that need quoting.
fn guest_path(text: &str) -> Result<PathBuf, String> {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if text.starts_with('/') && text.len() > 1 && plain && !text.split('/').any(|part| part == "..")
    {
        Ok(PathBuf::from(text.trim_end_matches('/')))
    } else {
        Err(format!(
            "`{text}` is not an absolute path of letters, digits and ./_-"
        ))
    }
}
