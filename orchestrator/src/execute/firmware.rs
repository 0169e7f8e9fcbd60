//! ROMs: built where they are pspd's own, checked where they are the user's.

use anyhow::{Context as _, bail};

use super::World;
use crate::definition::{DomainDefinition, FirmwareSource};
use crate::event::Scope;
use crate::image::coreboot::{self, Rom};
use crate::libvirt::Loader;
use crate::rom;
use crate::spec::{Connection, Name, Payload};

pub(super) fn ensure(
    world: &World,
    domain: &Name,
    image: &str,
    firmware: &FirmwareSource,
    scope: &Scope,
) -> anyhow::Result<()> {
    match firmware {
        FirmwareSource::Coreboot { payload, .. } => {
            coreboot(world, domain, image, payload, scope).map(drop)
        }
        FirmwareSource::Seabios | FirmwareSource::Uefi | FirmwareSource::Rom { .. } => {
            bail!("pspd builds no ROM for this firmware")
        }
    }
}

/// A domain's firmware as libvirt gets it; the file exists and can be read.
pub(super) fn loader(
    world: &World,
    definition: &DomainDefinition,
    scope: &Scope,
) -> anyhow::Result<Loader> {
    let path = match &definition.firmware {
        FirmwareSource::Seabios => return Ok(Loader::Seabios),
        FirmwareSource::Uefi => return Ok(Loader::Uefi),
        FirmwareSource::Rom { path, sha256 } => {
            rom::check(path, sha256)?;
            path.clone()
        }
        FirmwareSource::Coreboot { payload, .. } => {
            coreboot(world, &definition.name, &definition.image, payload, scope)?.path
        }
    };
    // A lab's hypervisor runs as the user who runs pspd; another libvirt's has a user of its own.
    if world.spec.connection != Connection::Lab {
        rom::check_readable(&path)?;
    }
    Ok(Loader::Rom { path })
}

fn coreboot(
    world: &World,
    domain: &Name,
    image: &str,
    payload: &Payload,
    scope: &Scope,
) -> anyhow::Result<Rom> {
    let (cache, cancel) = (&world.cache, &world.cancel);
    match payload {
        Payload::Seabios => coreboot::with_seabios(cache, scope, cancel),
        Payload::Linux { .. } => {
            let image = world.image(image, scope)?;
            coreboot::with_linux(cache, &image, payload, scope, cancel)
        }
    }
    .with_context(|| format!("failed to get coreboot for `{domain}`"))
}
