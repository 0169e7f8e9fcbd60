//! What became of the files that a domain's process has open, or that its saved state needs.

use std::collections::BTreeMap;
use std::path::Path;

use pspd_model::observed::Attached;
use pspd_model::spec::Name;

use crate::disk::{self, LayeredDisk, layers};
use crate::libvirt::DiskDescription;
use crate::state::{Home, OpenedFile};

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
            let opened = opened.get(&serial).copied();
            let now = if layers::is_layer(&path) {
                of_layer(&LayeredDisk::new(home, name, &serial), opened, &path)?
            } else {
                disk::compare(opened, &path)?
            };
            attached.insert(serial, now);
        }
    }
    Ok(attached)
}

/// A layer keeps its name, but the disk may have become another file.
fn of_layer(
    disk: &LayeredDisk,
    opened: Option<OpenedFile>,
    open: &Path,
) -> anyhow::Result<Attached> {
    Ok(if !open.exists() {
        Attached::Missing
    } else if let Some(opened) = opened
        && disk::is_overwritten(&opened, open)?
    {
        Attached::Overwritten
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
    for (serial, opened) in home.attached_record(name)? {
        let path = LayeredDisk::new(home, name, &serial).path;
        let now = disk::compare(Some(opened), &path)?;
        attached.insert(serial, now);
    }
    Ok(attached)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pspd_model::harm::Throttle;
    use pspd_model::spec::Size;

    use super::*;
    use crate::disk::qcow2::stamp;
    use crate::libvirt::DiskDescription;
    use crate::state::Paths;

    /// Before the first snapshot, after it, and while an export has its overlay over the file.
    #[test]
    fn a_backup_that_was_copied_over_a_volume_in_use_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let paths = Paths::resolve(Some(folder.clone()), Some(folder.clone())).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let web = Name::new("web").unwrap();
        let data = LayeredDisk::new(&home, &web, "data");
        disk::create(&data.path, Size::mib(1)).unwrap();
        let boot = || {
            let head = layers::head(&data.path).unwrap();
            stamp::renew(&head).unwrap();
            let opened = disk::opened(&head).unwrap().unwrap();
            let record = BTreeMap::from([("data".to_owned(), opened)]);
            home.record_attached(&web, &record).unwrap();
            head
        };
        let now = |open: &Path| {
            let disk = DiskDescription {
                path: Some(open.to_owned()),
                serial: Some("data".to_owned()),
                target: "vdb".to_owned(),
                format: None,
                read_only: false,
                throttle: Throttle::default(),
                backing: Vec::new(),
            };
            of_process(&home, &web, vec![disk]).unwrap()["data"]
        };
        let backup = folder.join("backup");
        for _ in ["one file", "a layer"] {
            fs::copy(boot(), &backup).unwrap();
            let open = boot();
            for open in [&open, &disk::overlay(&open)] {
                assert_eq!(now(open), Attached::Same);
            }
            assert_eq!(of_saved_state(&home, &web).unwrap()["data"], Attached::Same);
            fs::copy(&backup, &data.path).unwrap();
            for open in [&open, &disk::overlay(&open)] {
                assert_eq!(now(open), Attached::Overwritten);
            }
            assert_eq!(
                of_saved_state(&home, &web).unwrap()["data"],
                Attached::Overwritten
            );
            boot();
            data.switch(&data.add().unwrap()).unwrap();
        }
    }
}
