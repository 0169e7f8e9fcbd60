//! Images, system disks and data volumes.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use pspd_model::observed::{Disturbed, Shaping};
use pspd_model::spec::{Name, Size, VolumeId};

use super::World;
use crate::disk::{self, layers};
use crate::event::Scope;
use crate::state::remove_if_there;

pub(super) fn ensure_image(world: &World, name: &str, scope: &Scope) -> anyhow::Result<()> {
    world.image(name, scope).map(drop)
}

pub(super) fn create(world: &World, domain: &Name, image: &str, size: Size) -> anyhow::Result<()> {
    // Nothing is deployed on a new disk. The record goes first: after a crash in between, none may claim otherwise.
    world.home.forget_deployed(domain)?;
    world.home.forget_guest_record::<Shaping>(domain)?;
    world.home.forget_guest_record::<Disturbed>(domain)?;
    let image = world.image(image, &Scope::ignored())?;
    whole(&world.home.disk(domain), |path| {
        disk::create_overlay(&image.disk, path, size)
    })
}

/// Makes a file under another name first, so that a crash leaves none that looks like a disk.
fn whole(path: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let unfinished = path.with_extension("unfinished");
    remove_if_there(&unfinished)?;
    make(&unfinished)?;
    fs::rename(&unfinished, path).with_context(|| format!("failed to name `{}`", path.display()))
}

pub(super) fn delete(world: &World, domain: &Name) -> anyhow::Result<()> {
    world.home.forget_deployed(domain)?;
    world.home.forget_guest_record::<Shaping>(domain)?;
    world.home.forget_guest_record::<Disturbed>(domain)?;
    remove_if_there(&world.home.seed(domain))?;
    remove_if_there(&world.home.release_disk(domain))?;
    remove_if_there(&world.home.console_log(domain))?;
    remove_if_there(&world.home.firmware_log(domain))?;
    // It is of no use without the disk.
    world.home.forget_memory(domain)?;
    delete_file(&world.home.disk(domain))?;
    remove_unused_layers(world, domain)
}

fn remove_unused_layers(world: &World, domain: &Name) -> anyhow::Result<()> {
    let kept = disk::kept_layers(&world.home)?;
    layers::remove_unused(&world.home, domain, &kept)
}

pub(super) fn create_volume(path: &Path, size: Size) -> anyhow::Result<()> {
    whole(path, |path| disk::create(path, size))
}

pub(super) fn grow(path: &Path, size: Size) -> anyhow::Result<()> {
    disk::resize(path, size)
}

/// Gives a volume's file its current name. A file that has that name already is not replaced.
pub(super) fn rename_volume(folder: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let (old, new) = (folder.join(from), folder.join(to));
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(rustix::fs::CWD, &old, rustix::fs::CWD, &new, flags)
        .with_context(|| format!("failed to rename `{}` to `{to}`", old.display()))?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("failed to flush `{}`", folder.display()))
}

pub(super) fn delete_volume(world: &World, file: &str) -> anyhow::Result<()> {
    delete_file(&world.home.volumes().join(file))?;
    match VolumeId::of_file(file) {
        Some(id) => remove_unused_layers(world, &id.domain),
        None => Ok(()),
    }
}

/// With the overlay that an interrupted export may have left.
fn delete_file(path: &Path) -> anyhow::Result<()> {
    remove_if_there(&disk::overlay(&layers::head(path)?))?;
    remove_if_there(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renaming_a_volume_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        fs::write(folder.path().join("old"), "data").unwrap();
        rename_volume(folder.path(), "old", "new").unwrap();
        assert_eq!(read("new"), "data");
        fs::write(folder.path().join("old"), "other").unwrap();
        rename_volume(folder.path(), "old", "new").unwrap_err();
        assert_eq!(
            (read("old").as_str(), read("new").as_str()),
            ("other", "data")
        );
    }
}
