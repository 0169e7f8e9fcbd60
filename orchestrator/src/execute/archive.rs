//! Archives: preparing guests for one, writing it, and placing what one has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use pspd_model::plan::Existing;
use pspd_model::spec::{Name, SYSTEM_DISK};

use super::World;
use crate::archive::{self, Deployment, Packed, Target};
use crate::cancelled::Cancelled;
use crate::disk::{self, LayeredDisk, layers};
use crate::event::Scope;
use crate::firmware::Roms;
use crate::guest::Guest;
use crate::hint::told;
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
    pub(super) snapshot: Option<&'a Name>,
}

pub(super) fn place(world: &World) -> anyhow::Result<()> {
    let opened = world.take_opened()?;
    archive::place(world.placement()?, opened, &world.cache)
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
                "`{domain}` is packed without trimming its disks: {}",
                told(&error)
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
    let disks = disks(world, packing.snapshot)?;
    let (flattened, collapsed) = copies(world, &disks, packing, folder, scope)?;
    let contents = Deployment {
        spec: &world.spec,
        home: &world.home,
        identity: &*world.identity()?,
        images: &images,
        roms: roms.of_domains(&world.spec, &images)?,
        accelerator: accel::decide(world.spec.accel, &world.cache, kernel)?.accelerator,
        with_secrets: packing.with_secrets,
        flattened,
        collapsed,
    };
    archive::pack(
        &contents.contents(&world.cancel)?,
        &target,
        scope,
        &world.cancel,
    )
}

/// What is packed of a domain's disk.
struct Packable {
    domain: Name,
    disk: LayeredDisk,
    /// The disk itself, or the layer that a snapshot kept of it.
    file: PathBuf,
}

/// The disks that exist, or that a snapshot has. One that is missing is an error of the packing, which says what to do.
fn disks(world: &World, snapshot: Option<&Name>) -> anyhow::Result<Vec<Packable>> {
    let snapshot = match snapshot {
        None => None,
        Some(name) => {
            let found = world.home.snapshot(name)?;
            Some(found.with_context(|| format!("the snapshot `{name}` does not exist"))?)
        }
    };
    let mut disks = Vec::new();
    for domain in world.spec.domains.values() {
        for disk in LayeredDisk::all(&world.home, domain) {
            let file = match &snapshot {
                None => disk.exists().then(|| disk.path.clone()),
                Some(snapshot) => {
                    let of = snapshot.domains.get(&domain.name);
                    let file = of.and_then(|of| of.disks.get(&disk.serial));
                    let file = file.with_context(|| {
                        format!(
                            "the snapshot has no disk `{}` of `{}`: it was saved while the deployment was down",
                            disk.serial, domain.name
                        )
                    })?;
                    Some(disk.named(file))
                }
            };
            disks.extend(file.map(|file| Packable {
                domain: domain.name.clone(),
                disk,
                file,
            }));
        }
    }
    Ok(disks)
}

/// Self-contained system disks, by domain, and copies without layers of the disks that have some, by their names.
type Copies = (BTreeMap<Name, PathBuf>, BTreeMap<PathBuf, PathBuf>);

fn copies(
    world: &World,
    disks: &[Packable],
    packing: &Packing<'_>,
    folder: &Path,
    scope: &Scope,
) -> anyhow::Result<Copies> {
    create_private(folder)?;
    let (mut flattened, mut collapsed) = Copies::default();
    for Packable { domain, disk, file } in disks {
        let name = disk.path.file_name().unwrap_or_default();
        if packing.flatten && disk.serial == SYSTEM_DISK {
            scope.stage(format!("flattening the disk of {domain}"));
            let to = folder.join(name);
            disk::flatten(file, &to, &world.cancel)?;
            flattened.insert(domain.clone(), to);
        } else if packing.snapshot.is_some() || layers::has_layers(file)? {
            scope.stage(format!(
                "merging a copy of the disk `{}` of {domain}",
                disk.serial
            ));
            let folder = folder.join("collapsed");
            create_private(&folder)?;
            let to = folder.join(name);
            layers::collapse(file, &to, &world.cancel)?;
            collapsed.insert(disk.path.clone(), to);
        }
    }
    Ok((flattened, collapsed))
}
