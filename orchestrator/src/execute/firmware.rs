//! ROMs: those of coreboot are built, those of the user are checked.

use anyhow::Context as _;

use super::World;
use crate::event::Scope;
use crate::firmware::{Roms, rom};
use crate::libvirt::Loader;
use crate::spec::{Connection, Name};

pub(super) fn ensure(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<()> {
    let spec = &world.spec.domains[domain];
    roms(world, scope)
        .find(&spec.firmware, || world.image(&spec.image, scope))
        .map(drop)
        .with_context(|| format!("failed to build the ROM of `{domain}`"))
}

/// What the domain is defined with; the hypervisor can read the file.
pub(super) fn loader(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<Loader> {
    let spec = &world.spec.domains[domain];
    let loader = roms(world, scope)
        .loader(&spec.firmware, || world.image(&spec.image, scope))
        .with_context(|| format!("failed to prepare the firmware of `{domain}`"))?;
    // A lab's hypervisor runs as the user who runs pspd; another libvirt's has a user of its own.
    if let Loader::Rom { path } = &loader
        && world.spec.connection != Connection::Lab
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
