//! Snapshots of the whole deployment: what each domain gives to one, and what putting one in place does.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use pspd_model::hint::Hint as _;
use pspd_model::intent::{Intent, PowerIntent};
use pspd_model::observed::{Disturbed, Shaping};
use pspd_model::plan::SnapshotOf;
use pspd_model::spec::Name;
use tokio_util::sync::CancellationToken;

use super::domain::{expect, record_attached};
use super::taken::{Taken, TakenMemory};
use super::{World, memory};
use crate::archive;
use crate::disk::{self, LayeredDisk, layers};
use crate::event::Scope;
use crate::state::{MemoryImage, MemoryRecord, Snapshot, SnapshotDomain, remove_if_there};

pub(super) fn add_layers(world: &World, name: &Name) -> anyhow::Result<()> {
    // A killed run may have made some that nothing writes.
    let kept = disk::kept_layers(&world.home)?;
    layers::remove_unused(&world.home, name, &kept)?;
    for disk in existing(world, name) {
        disk.add()?;
    }
    Ok(())
}

/// After `down`, a domain has its data volumes only.
fn existing(world: &World, name: &Name) -> Vec<LayeredDisk> {
    let mut disks = LayeredDisk::all(&world.home, &world.spec.domains[name]);
    disks.retain(LayeredDisk::exists);
    disks
}

/// Freezes the disks of a domain, and writes its memory to the snapshot's folder.
pub(super) fn take(
    world: &World,
    name: &Name,
    snapshot: &Name,
    of: &SnapshotOf,
) -> anyhow::Result<()> {
    let home = &world.home;
    let file = home.snapshot_memory(snapshot, name);
    let disks = existing(world, name);
    let (mut added, mut frozen) = (BTreeMap::new(), BTreeMap::new());
    for disk in &disks {
        let layer = disk.newest()?;
        let below = layers::below(&layer)?.unwrap_or_default();
        frozen.insert(disk.serial.clone(), file_name(&below));
        added.insert(disk.serial.clone(), layer);
    }
    if of.has_process() {
        let domain = expect(world, name)?;
        let live = domain.live()?;
        let live = live.with_context(|| format!("the domain `{name}` is no longer running"))?;
        let memory = matches!(of, SnapshotOf::Memory(_)).then_some(file.as_path());
        let frozen = domain.freeze(&live, &added, memory);
        if frozen.is_err() {
            // On a full disk, the guests need its room to continue. The error that counts is libvirt's.
            let _ = remove_if_there(&file);
        }
        frozen?;
    }
    // Nothing runs, so nothing is written before the links lead to the new layers.
    for disk in &disks {
        disk.switch(&added[&disk.serial])?;
    }
    let memory = match of {
        SnapshotOf::Memory(machine) => TakenMemory::Of(machine.clone()),
        SnapshotOf::SavedMemory => TakenMemory::Known(keep_memory(world, name, &file)?),
        SnapshotOf::Running | SnapshotOf::Off => TakenMemory::None,
    };
    if of.has_process() {
        record_attached(world, name, &added)?;
    }
    let taken = Taken {
        disks: frozen,
        memory,
        runs: of.has_process(),
    };
    world.keep_taken(name, taken);
    Ok(())
}

/// Gives the memory of a saved domain to a snapshot, too. It also fits the new layers, which are empty.
fn keep_memory(world: &World, name: &Name, file: &Path) -> anyhow::Result<MemoryImage> {
    let record = world.home.memory_record(name)?;
    let mut record = record.with_context(|| format!("the memory of `{name}` is missing"))?;
    link(&world.home.memory_file(name), file)?;
    let serials = world.spec.domains[name].disks();
    record.disks = memory::versions(&world.home, name, serials)?;
    world.home.record_memory(name, &record)?;
    Ok(record.image)
}

/// Gives a file that nothing writes now a second name. Another file system needs a copy.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    let linked = match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => fs::copy(from, to).map(drop),
        linked => linked,
    };
    linked.with_context(|| format!("failed to link `{}`", to.display()))
}

/// Reads the digests of the memory that was written, and records the snapshot.
pub(super) fn record(world: &World, name: &Name, note: &str, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("reading the memory back");
    let taken = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut snapshot = Snapshot::new(world.spec.clone(), note.to_owned(), taken);
    snapshot.parent = world.home.head_snapshot()?;
    for (
        domain,
        Taken {
            disks,
            memory,
            runs,
        },
    ) in world.take_taken()
    {
        let memory = match memory {
            TakenMemory::None => None,
            TakenMemory::Known(image) => Some(image),
            TakenMemory::Of(machine) => {
                let file = world.home.snapshot_memory(name, &domain);
                Some(memory::image(&machine, &file)?)
            }
        };
        let deployed = world.home.deployed_record(&domain)?;
        let of = SnapshotDomain {
            disks,
            memory,
            runs,
            deployed,
        };
        snapshot.domains.insert(domain, of);
    }
    world.home.record_snapshot(name, &snapshot)?;
    world.home.record_head_snapshot(Some(name))
}

/// Puts disks, memory and records of a snapshot in place. An interrupted run is done again by the next one.
pub(super) fn rewind(world: &World, name: &Name, disk_only: bool) -> anyhow::Result<()> {
    let home = &world.home;
    let snapshot = home.snapshot(name)?;
    let snapshot = snapshot.with_context(|| format!("the snapshot `{name}` does not exist"))?;
    home.record_rewinding(Some(name))?;
    let mut intent = Intent::default();
    for (domain, of) in &snapshot.domains {
        home.forget_memory(domain)?;
        for disk in LayeredDisk::all(home, &snapshot.spec.domains[domain]) {
            match of.disks.get(&disk.serial) {
                Some(file) => {
                    let layer = disk.add_over(&disk.named(file))?;
                    disk.switch(&layer)?;
                }
                None => remove_if_there(&disk.path)?,
            }
        }
        // What ran before may have kept layers from being merged.
        shorten(world, domain, &Scope::ignored(), &world.cancel)?;
        home.forget_guest_record::<Shaping>(domain)?;
        home.forget_guest_record::<Disturbed>(domain)?;
        match &of.deployed {
            Some(deployed) => home.record_deployed(domain, deployed)?,
            None => home.forget_deployed(domain)?,
        }
        let memory = of.memory.as_ref().filter(|_| !disk_only);
        if let Some(image) = memory {
            home.prepare_memory(domain)?;
            link(
                &home.snapshot_memory(name, domain),
                &home.memory_file(domain),
            )?;
            let serials = of.disks.keys().map(String::as_str);
            let record = MemoryRecord {
                image: image.clone(),
                disks: memory::versions(home, domain, serials)?,
            };
            home.record_memory(domain, &record)?;
        }
        if !of.runs {
            let power = match memory {
                Some(_) => PowerIntent::Saved,
                None => PowerIntent::Stopped,
            };
            intent.power.insert(domain.clone(), power);
        }
    }
    home.record_intent(&intent)?;
    home.record_spec(&snapshot.spec)?;
    home.record_head_snapshot(Some(name))?;
    home.record_rewinding(None)
}

pub(super) fn remove(world: &World, name: &Name, scope: &Scope) -> anyhow::Result<()> {
    let Some(snapshot) = world.home.snapshot(name)? else {
        bail!("the snapshot `{name}` does not exist");
    };
    world.home.forget_snapshot(name)?;
    for domain in snapshot.domains.keys() {
        shorten(world, domain, scope, &world.cancel)?;
    }
    Ok(())
}

/// Removes the layers of a domain that nothing needs, and merges those that no snapshot keeps into the ones over them. Of a
/// running domain, a layer stays until it is off if several layers are over the one over it.
pub(super) fn shorten(
    world: &World,
    name: &Name,
    scope: &Scope,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let home = &world.home;
    follow(world, name)?;
    let mut left = Vec::new();
    loop {
        let kept = disk::kept_layers(home)?;
        layers::remove_unused(home, name, &kept)?;
        let mergeable = layers::mergeable(home, name, &kept)?;
        let next = mergeable.into_iter().find(|one| !left.contains(one));
        let Some(between) = next else {
            return Ok(());
        };
        scope.stage("merging layers");
        if !merge(world, name, &between, scope, cancel)? {
            left.push(between);
        }
    }
}

/// Merges a layer and the one over it; says whether it did.
fn merge(
    world: &World,
    name: &Name,
    between: &layers::Between,
    scope: &Scope,
    cancel: &CancellationToken,
) -> anyhow::Result<bool> {
    let above = &between.above;
    let open = running(world, name)?
        .into_iter()
        .find_map(|(serial, chain)| {
            let depth = chain.iter().position(|layer| layer == above)?;
            Some((serial, depth))
        });
    let Some((serial, depth)) = open else {
        disk::absorb(above, between.below.as_deref(), cancel)?;
        return Ok(true);
    };
    let domain = expect(world, name)?;
    let progress = |done, total| scope.progress(done, Some(total));
    if depth == 0 {
        domain.absorb(&serial, progress)?;
        if layers::below(above)? != between.below {
            return Err(not_merged(&between.layer));
        }
        return Ok(true);
    }
    if layers::over(&world.home, name, above)?.len() != 1 {
        return Ok(false);
    }
    // QEMU writes downwards where a layer is not the head, so the lower file has then what the upper one had.
    domain.commit(&serial, depth, progress)?;
    if !layers::over(&world.home, name, above)?.is_empty() {
        return Err(not_merged(&between.layer));
    }
    let (from, to) = (file_name(above), file_name(&between.layer));
    world.home.replace_layer(name, &from, &to)?;
    Ok(true)
}

fn not_merged(layer: &Path) -> anyhow::Error {
    anyhow!("the layer `{}` was not merged", layer.display())
}

/// The files that a domain's process has open, by serial, from the top; none where it does not run.
fn running(world: &World, name: &Name) -> anyhow::Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut open = BTreeMap::new();
    let Ok(connection) = world.connection() else {
        // No lab runs, so no domain does.
        return Ok(open);
    };
    let domain = connection.domain(&world.spec.name, name.as_str())?;
    let live = domain.map(|domain| domain.live()).transpose()?.flatten();
    for disk in live.into_iter().flat_map(|live| live.disks) {
        if let (Some(serial), Some(path), false) = (disk.serial, disk.path, disk.read_only) {
            open.insert(serial, layers::chain(&path)?);
        }
    }
    Ok(open)
}

/// Merges what an interrupted export left. A process says which layers an interrupted snapshot made it write.
pub(super) fn settle(
    world: &World,
    name: &Name,
    scope: &Scope,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let settled = || {
        follow(world, name)?;
        let connection = world.connection()?;
        archive::merge(&connection, &world.home, &world.spec, name, scope, cancel)
    };
    let settled = settled()
        .with_context(|| format!("failed to merge the snapshots of `{name}` into its disks"));
    Ok(settled.hint("Run `pspd up` to retry")?)
}

/// Makes the layers that a process writes the heads of its disks: an interrupted snapshot may not have got there.
fn follow(world: &World, name: &Name) -> anyhow::Result<()> {
    for (serial, chain) in running(world, name)? {
        let disk = LayeredDisk::new(&world.home, name, &serial);
        let writes = chain.into_iter().find(|path| !disk::is_overlay(path));
        if let Some(layer) = writes
            && disk.is_behind(&layer)?
        {
            disk.switch(&layer)?;
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
