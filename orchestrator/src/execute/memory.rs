//! Saved memory: written while a domain is paused, and restored together with that of the others.

use std::collections::BTreeMap;

use anyhow::Context as _;
use pspd_model::spec::{Digest, Name, Range, Size};

use super::World;
use super::domain::{self, expect, forget_neighbor};
use crate::accel;
use crate::event::Scope;
use crate::state::{FileVersion, MemoryRecord, digest};

/// What memory is of: the definition, and the sizes that it leaves open.
pub(super) struct Machine<'a> {
    pub definition: &'a Digest,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
}

pub(super) fn save(
    world: &World,
    name: &Name,
    machine: &Machine<'_>,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("writing its memory");
    let domain = expect(world, name)?;
    let live = domain.live()?;
    let live = live.with_context(|| format!("the domain `{name}` no longer runs"))?;
    world.home.prepare_memory(name)?;
    let file = world.home.memory_file(name);
    domain.save(&file)?;
    let mut disks = BTreeMap::new();
    for path in live
        .disks
        .into_iter()
        .filter(|disk| !disk.read_only)
        .filter_map(|disk| disk.path)
    {
        if let Some(version) = FileVersion::at(&path)? {
            disks.insert(path, version);
        }
    }
    scope.stage("reading its memory back");
    let record = MemoryRecord {
        definition: machine.definition.clone(),
        memory: machine.memory,
        vcpus: machine.vcpus,
        hypervisor: accel::hypervisor()?,
        digest: digest(&file)?,
        disks,
    };
    world.home.record_memory(name, &record)
}

/// Starts a process with the saved memory. Memory that QEMU refuses is discarded, so that the next run boots the guest.
pub(super) fn restore(world: &World, name: &Name, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("reading its memory");
    forget_neighbor(world, name)?;
    let file = world.home.memory_file(name);
    domain::attach_disks(world, name, &expect(world, name)?)?;
    match world.connection()?.restore(&file) {
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
