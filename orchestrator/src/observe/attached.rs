//! What became of the files that a domain's process has open, or that its saved state needs.

use std::collections::BTreeMap;
use std::path::Path;

use pspd_model::observed::Attached;
use pspd_model::spec::Name;

use crate::disk::{self, LayeredDisk, layers};
use crate::libvirt::DiskDescription;
use crate::state::{FileIdentity, Home};

/// Whether a process writes a layer that an interrupted snapshot did not make the head of its disk.
pub(super) fn is_ahead(home: &Home, name: &Name, open: &[DiskDescription]) -> anyhow::Result<bool> {
    for disk in open.iter().filter(|disk| !disk.read_only) {
        if let (Some(serial), Some(path)) = (&disk.serial, &disk.path)
            && LayeredDisk::new(home, name, serial).is_behind(path)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What became of the files that a domain's process has open.
pub(super) fn of_process(
    home: &Home,
    name: &Name,
    disks: Vec<DiskDescription>,
) -> anyhow::Result<BTreeMap<String, Attached>> {
    let opened = home.attached_record(name)?;
    let mut attached = BTreeMap::new();
    for disk in disks.into_iter().filter(|disk| !disk.read_only) {
        if let (Some(serial), Some(path)) = (disk.serial, disk.path) {
            // An export may have left an overlay over the file.
            let path = if disk::is_overlay(&path) {
                path.with_extension("")
            } else {
                path
            };
            let now = if layers::is_layer(&path) {
                of_layer(&LayeredDisk::new(home, name, &serial), &path)?
            } else {
                FileIdentity::compare(opened.get(&serial).copied(), &path)?
            };
            attached.insert(serial, now);
        }
    }
    Ok(attached)
}

/// A layer keeps its name, but the disk may have become another file.
fn of_layer(disk: &LayeredDisk, open: &Path) -> anyhow::Result<Attached> {
    Ok(if !open.exists() {
        Attached::Missing
    } else if layers::head(&disk.path)? == open || disk.is_behind(open)? {
        Attached::Same
    } else if disk.exists() {
        Attached::Replaced
    } else {
        Attached::Missing
    })
}

/// What became of the files that a domain had open when its memory was saved.
pub(super) fn of_saved_state(
    home: &Home,
    name: &Name,
) -> anyhow::Result<BTreeMap<String, Attached>> {
    let mut attached = BTreeMap::new();
    for (serial, file) in home.attached_record(name)? {
        let path = LayeredDisk::new(home, name, &serial).path;
        let now = FileIdentity::compare(Some(file), &path)?;
        attached.insert(serial, now);
    }
    Ok(attached)
}
