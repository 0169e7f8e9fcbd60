//! Saved memory: written while a domain is paused, and restored together with that of the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::plan::SavedMachine;
use pspd_model::spec::Name;
use tokio_util::sync::CancellationToken;

use super::World;
use super::domain::{self, expect, forget_neighbor};
use crate::accel;
use crate::digest;
use crate::disk::LayeredDisk;
use crate::event::Scope;
use crate::state::{FileVersion, Home, MemoryImage, MemoryRecord};

pub(super) fn save(
    world: &World,
    name: &Name,
    machine: &SavedMachine,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("writing its memory");
    let domain = expect(world, name)?;
    let live = domain.live()?;
    let live = live.with_context(|| format!("the domain `{name}` is no longer running"))?;
    let disks = live.disks.into_iter().filter(|disk| !disk.read_only);
    let serials: Vec<String> = disks.filter_map(|disk| disk.serial).collect();
    world.home.prepare_memory(name)?;
    let file = world.home.memory_file(name);
    domain.save(&file)?;
    scope.stage("reading its memory back");
    let record = MemoryRecord {
        image: image(machine, &file)?,
        disks: versions(&world.home, name, serials.iter().map(String::as_str))?,
    };
    world.home.record_memory(name, &record)
}

/// What a file of memory is of, with the digest of the file.
pub(super) fn image(machine: &SavedMachine, file: &Path) -> anyhow::Result<MemoryImage> {
    Ok(MemoryImage {
        definition: machine.definition.clone(),
        memory: machine.memory,
        vcpus: machine.vcpus,
        hypervisor: accel::hypervisor()?,
        // Memory without its record is of no use, so a saved domain is not left without one.
        digest: digest::of_file(file, &CancellationToken::new())?,
    })
}

/// The disks of a domain as they are now, by the names that memory is recorded with.
pub(super) fn versions<'a>(
    home: &Home,
    name: &Name,
    serials: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<BTreeMap<PathBuf, FileVersion>> {
    let mut disks = BTreeMap::new();
    for serial in serials {
        let path = LayeredDisk::new(home, name, serial).path;
        if let Some(version) = FileVersion::at(&path)? {
            disks.insert(path, version);
        }
    }
    Ok(disks)
}

/// Starts a process with the saved memory. Memory that QEMU refuses is discarded, so that the next run boots the guest.
pub(super) fn restore(world: &World, name: &Name, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("reading its memory");
    forget_neighbor(world, name)?;
    let file = world.home.memory_file(name);
    let disks = domain::attach_disks(world, name, &expect(world, name)?)?;
    // Without new stamps: the memory fits only disks that did not change since.
    domain::record_attached(world, name, &disks)?;
    match world.connection()?.restore(&file, &disks) {
        Ok(()) => Ok(()),
        Err(error) if error.is_refusal() => {
            world.home.forget_memory(name)?;
            Err(error).with_context(|| {
                format!("the saved memory of `{name}` cannot be restored, and was discarded; run `pspd up` to boot it")
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Lets a restored domain run: from then on its disks differ from what its memory is of.
pub(super) fn resume(world: &World, name: &Name) -> anyhow::Result<()> {
    world.home.disown_memory(name)?;
    expect(world, name)?.proceed()?;
    world.home.forget_memory(name)
}

/// Takes a save back that another step made useless.
pub(super) fn undo_save(world: &World, name: &Name) -> anyhow::Result<()> {
    restore(world, name, &Scope::ignored())?;
    resume(world, name)
}
