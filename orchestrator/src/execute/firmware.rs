//! ROMs: built where they are pspd's own, checked where they are the user's.

use anyhow::Context as _;

use super::World;
use crate::event::Scope;
use crate::image::coreboot::{self, Rom};
use crate::libvirt::Loader;
use crate::rom;
use crate::spec::{Connection, Firmware, Name, Payload};

pub(super) fn ensure(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<()> {
    match &world.spec.domains[domain].firmware {
        Firmware::Coreboot(payload) => coreboot(world, domain, payload, scope).map(drop),
        Firmware::Seabios | Firmware::Uefi | Firmware::Rom { .. } => Ok(()),
    }
}

/// What libvirt is told of a domain's firmware; the file is there and can be read.
pub(super) fn loader(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<Loader> {
    let path = match &world.spec.domains[domain].firmware {
        Firmware::Seabios => return Ok(Loader::Seabios),
        Firmware::Uefi => return Ok(Loader::Uefi),
        Firmware::Rom { path, sha256 } => {
            rom::check(path, sha256)?;
            path.clone()
        }
        Firmware::Coreboot(payload) => coreboot(world, domain, payload, scope)?.path,
    };
    // A lab's hypervisor runs as the user who runs pspd; another libvirt's has a user of its own.
    if world.spec.connection != Connection::Lab {
        rom::check_readable(&path)?;
    }
    Ok(Loader::Rom { path })
}

fn coreboot(world: &World, domain: &Name, payload: &Payload, scope: &Scope) -> anyhow::Result<Rom> {
    let (cache, cancel) = (&world.cache, &world.cancel);
    match payload {
        Payload::Seabios => coreboot::with_seabios(cache, scope, cancel),
        Payload::Linux { .. } => {
            let image = world.image(&world.spec.domains[domain].image, scope)?;
            coreboot::with_linux(cache, &image, payload, scope, cancel)
        }
    }
    .with_context(|| format!("failed to get coreboot for `{domain}`"))
}
