//! Archives: preparing guests for one, writing it, and placing what one has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pspd_model::plan::Existing;
use pspd_model::spec::{Name, SYSTEM_DISK};

use super::World;
use crate::archive::{self, Deployment, Packed, Target};
use crate::cancelled::Cancelled;
use crate::disk::{self, LayeredDisk, layers};
use crate::event::Scope;
use crate::firmware::Roms;
use crate::guest::Guest;
use crate::state::create_private;
use crate::{accel, folder};

/// The deadline for SSH to a guest that is already running.
const SSH: Duration = Duration::from_secs(30);

/// What a [`Pack`](pspd_model::plan::Action::Pack) step says.
pub(super) struct Packing<'a> {
    pub(super) archive: &'a Path,
    pub(super) existing: Existing,
    pub(super) flatten: bool,
    pub(super) with_secrets: bool,
}

pub(super) fn place(world: &World) -> anyhow::Result<()> {
    let opened = world.take_opened()?;
    world.placement()?.place(opened, &world.cache)
}

/// Removes what [`place`] placed.
pub(super) fn remove(world: &World) -> anyhow::Result<()> {
    world.placement()?.remove()
}

/// Trims a guest's disks. A guest that does not answer is packed untrimmed, which a note says.
pub(super) fn tidy(world: &World, domain: &Name, clean: bool, scope: &Scope) -> anyhow::Result<()> {
    match trim(world, domain, clean, scope) {
        Err(_) if world.cancel.is_cancelled() => {
            Err(Cancelled::during(format_args!("trimming the disks of `{domain}`")).into())
        }
        Err(error) => {
            scope.note(format!(
                "`{domain}` is packed without trimming its disks: {error:#}"
            ));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn trim(world: &World, domain: &Name, clean: bool, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("trimming disks");
    let guest = Guest::connect(
        &world.reach()?,
        &world.spec,
        domain,
        &*world.identity()?,
        SSH,
        scope,
        &world.cancel,
    )?;
    guest.tidy(domain, clean)
}

pub(super) fn pack(world: &World, packing: &Packing<'_>, scope: &Scope) -> anyhow::Result<()> {
    let folder = world.home.flattened();
    // A killed export may have left it.
    folder::remove(&folder)?;
    let packed = pack_with(world, packing, &folder, scope);
    let removed = folder::remove(&folder);
    world.set_packed(packed?);
    removed
}

/// Packs; `folder` is for disks that are made for the archive alone.
fn pack_with(
    world: &World,
    packing: &Packing<'_>,
    folder: &Path,
    scope: &Scope,
) -> anyhow::Result<Packed> {
    let target = Target::new(packing.archive, packing.existing)?;
    let mut images = BTreeMap::new();
    for name in world.spec.images.keys() {
        images.insert(name.clone(), world.image(name, scope)?);
    }
    let kernel = images.values().find_map(|image| image.kernel.as_ref());
    let roms = Roms {
        cache: &world.cache,
        scope,
        cancel: &world.cancel,
    };
    let contents = Deployment {
        spec: &world.spec,
        home: &world.home,
        identity: &*world.identity()?,
        images: &images,
        roms: roms.of_domains(&world.spec, &images)?,
        accelerator: accel::decide(world.spec.accel, &world.cache, kernel)?.accelerator,
        with_secrets: packing.with_secrets,
        flattened: match packing.flatten {
            true => flatten(world, folder, scope)?,
            false => BTreeMap::new(),
        },
        collapsed: collapse(world, packing.flatten, folder, scope)?,
    };
    archive::pack(
        &contents.contents(&world.cancel)?,
        &target,
        scope,
        &world.cancel,
    )
}

/// Makes a copy without layers of each disk that has some, by the disk's name.
fn collapse(
    world: &World,
    flatten: bool,
    folder: &Path,
    scope: &Scope,
) -> anyhow::Result<BTreeMap<PathBuf, PathBuf>> {
    let folder = folder.join("collapsed");
    let mut collapsed = BTreeMap::new();
    for domain in world.spec.domains.values() {
        for disk in LayeredDisk::all(&world.home, domain) {
            // One that does not exist is an error of the packing, which says what to do.
            let flattened = flatten && disk.serial == SYSTEM_DISK;
            if flattened || !disk.exists() || !layers::has_layers(&disk.path)? {
                continue;
            }
            scope.stage(format!("merging a copy of the disk of {}", domain.name));
            create_private(&folder)?;
            let to = folder.join(disk.path.file_name().unwrap_or_default());
            layers::collapse(&disk.path, &to)?;
            collapsed.insert(disk.path, to);
        }
    }
    Ok(collapsed)
}

/// Makes a self-contained copy of each system disk.
fn flatten(world: &World, folder: &Path, scope: &Scope) -> anyhow::Result<BTreeMap<Name, PathBuf>> {
    create_private(folder)?;
    let mut flattened = BTreeMap::new();
    for name in world.spec.domains.keys() {
        scope.stage(format!("flattening the disk of {name}"));
        let to = folder.join(format!("{name}.qcow2"));
        disk::flatten(&world.home.disk(name), &to, &world.cancel)?;
        flattened.insert(name.clone(), to);
    }
    Ok(flattened)
}
