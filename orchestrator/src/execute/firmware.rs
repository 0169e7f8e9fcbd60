//! ROMs: those of coreboot are built, those of the user are checked.

use anyhow::Context as _;
use pspd_model::definition::DomainDefinition;
use pspd_model::spec::{Digest, Firmware, Name};

use super::World;
use crate::event::Scope;
use crate::firmware::{Roms, rom};
use crate::libvirt::Loader;
use crate::reach::Reach;

pub(super) fn ensure(
    world: &World,
    domain: &Name,
    image: &str,
    firmware: &Firmware,
    digest: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    roms(world, scope)
        .ensure(firmware, digest, || world.image(image, scope))
        .with_context(|| format!("failed to build the ROM of `{domain}`"))
}

/// A domain's firmware as libvirt gets it; the hypervisor can read the file.
pub(super) fn loader(
    world: &World,
    definition: &DomainDefinition,
    scope: &Scope,
) -> anyhow::Result<Loader> {
    let loader = roms(world, scope)
        .loader(&definition.firmware, || {
            world.image(&definition.image, scope)
        })
        .with_context(|| format!("failed to prepare the firmware of `{}`", definition.name))?;
    // A lab's hypervisor runs as the user who runs pspd; another libvirt's has a user of its own.
    if let Loader::Rom { path } = &loader
        && matches!(world.reach()?, Reach::Direct)
    {
        rom::check_readable(path)?;
    }
    Ok(loader)
}

fn roms<'a>(world: &'a World, scope: &'a Scope) -> Roms<'a> {
    Roms {
        cache: &world.cache,
        scope,
        cancel: &world.cancel,
    }
}
