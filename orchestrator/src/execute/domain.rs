//! Domains: their definitions, their power and their size.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ipnet::Ipv4Net;
use ssh_key::LineEnding;

use super::{World, firmware};
use crate::archive;
use crate::event::Scope;
use crate::image::{GuestImage, NoCloud};
use crate::libvirt::{
    Affect, Disk, DiskFormat, Domain, DomainDefinition, Error, Interface, KernelBoot, Ownership,
};
use crate::plan::volume_file;
use crate::spec::{Boot, Digest, DomainSpec, Firmware, Name, Range, Seed, Size};
use crate::state::remove_if_there;

/// What a guest gets to shut down by itself; pspd's own take two seconds under emulation.
const SHUTDOWN: Duration = Duration::from_secs(30);

pub(super) fn define(
    world: &World,
    name: &Name,
    digest: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    let domain = &world.spec.domains[name];
    let image = world.image(&domain.image, scope)?;
    let kernel = match domain.boot {
        Boot::Disk => None,
        Boot::Kernel if domain.firmware.holds_kernel() => None,
        Boot::Kernel => Some(kernel(domain, &image)?),
    };
    let definition = DomainDefinition {
        name: name.clone(),
        ownership: Ownership {
            deployment: world.spec.name.clone(),
            digest: digest.clone(),
        },
        accelerator: world.accelerator(&image)?,
        machine: domain.machine,
        firmware: firmware::loader(world, name, scope)?,
        kernel,
        memory: domain.memory,
        vcpus: domain.vcpus,
        disks: disks(world, domain, &image)?,
        interfaces: vec![Interface {
            network: world.spec.network.name.clone(),
            mac: domain.mac,
        }],
        oem_strings: world.identity.oem_strings(&world.spec, name)?,
        fw_cfg: world.identity.fw_cfg(name)?,
        serial_log: world.home.console_log(name),
        firmware_log: world.home.firmware_log(name),
    };
    world.connection()?.define_domain(&definition)?;
    Ok(())
}

/// The image's kernel in the format that the domain's firmware starts.
fn kernel(domain: &DomainSpec, image: &GuestImage) -> anyhow::Result<KernelBoot> {
    let mut kernel = image.kernel.clone().with_context(|| {
        format!(
            "the image `{}` has no kernel of its own; set `boot: disk` for `{}`",
            domain.image, domain.name
        )
    })?;
    // The PVH entry is for QEMU's own SeaBIOS: others wait for it for ever.
    if domain.firmware != Firmware::Seabios {
        kernel.kernel = kernel.bz_image();
    }
    Ok(kernel.into())
}

fn disks(world: &World, domain: &DomainSpec, image: &GuestImage) -> anyhow::Result<Vec<Disk>> {
    let mut disks = vec![Disk {
        path: world.home.disk(&domain.name),
        format: DiskFormat::Qcow2,
        serial: "system".into(),
        read_only: false,
    }];
    for volume in &domain.volumes {
        let path = world
            .home
            .volumes()
            .join(volume_file(&domain.name, &volume.name));
        disks.push(Disk {
            path,
            format: DiskFormat::Qcow2,
            serial: volume.name.to_string(),
            read_only: false,
        });
    }
    if image.seed == Seed::Nocloud {
        let path = world.home.seed(&domain.name);
        write_seed(world, domain, &path)?;
        disks.push(Disk {
            path,
            format: DiskFormat::Raw,
            serial: "seed".into(),
            read_only: true,
        });
    }
    Ok(disks)
}

fn write_seed(world: &World, domain: &DomainSpec, path: &Path) -> anyhow::Result<()> {
    let network = &world.spec.network;
    let host_key = world
        .identity
        .host_key(&domain.name)?
        .to_openssh(LineEnding::LF)
        .context("failed to write the host key")?;
    let authorized_key = world
        .identity
        .ssh_key()
        .public_key()
        .to_openssh()
        .context("failed to write the SSH key")?;
    remove_if_there(path)?;
    let seed = NoCloud {
        host_name: domain.name.as_str(),
        domain: &network.domain,
        mac: domain.mac,
        address: Ipv4Net::new(domain.address, network.cidr.prefix_len())
            .context("failed to write the guest's address")?,
        gateway: network.gateway,
        host_key: &host_key,
        authorized_key: &authorized_key,
    };
    seed.write(path)
}

fn find(world: &World, name: &Name) -> anyhow::Result<Option<Domain>> {
    Ok(world
        .connection()?
        .domain(&world.spec.name, name.as_str())?)
}

fn expect(world: &World, name: &Name) -> anyhow::Result<Domain> {
    find(world, name)?
        .ok_or_else(|| anyhow!("the domain `{name}` is gone; something undefined it meanwhile"))
}

pub(super) fn start(world: &World, name: &Name) -> anyhow::Result<()> {
    let domain = expect(world, name)?;
    // What is known of the boot before holds no longer, also where this one fails.
    world.home.forget_boot(name)?;
    world.watch_boot(name)?;
    Ok(domain.start()?)
}

pub(super) fn resume(world: &World, name: &Name) -> anyhow::Result<()> {
    Ok(expect(world, name)?.resume()?)
}

pub(super) fn merge(world: &World, name: &Name, scope: &Scope) -> anyhow::Result<()> {
    archive::merge(&world.connection()?, &world.home, &world.spec, name, scope)
}

/// Presses the power button, and pulls the plug where the guest does not obey.
pub(super) fn stop(world: &World, name: &Name, scope: &Scope) -> anyhow::Result<()> {
    let Some(domain) = find(world, name)? else {
        return Ok(());
    };
    scope.stage("shutting down");
    match domain.shutdown(SHUTDOWN, &world.cancel) {
        Ok(()) => Ok(()),
        Err(error @ Error::Cancelled { .. }) => Err(error.into()),
        Err(error) => {
            scope.note(format!(
                "`{name}` did not shut down by itself ({error}); its power is cut"
            ));
            Ok(domain.destroy()?)
        }
    }
}

pub(super) fn undefine(world: &World, name: &Name) -> anyhow::Result<()> {
    find(world, name)?.map_or(Ok(()), |domain| Ok(domain.undefine()?))
}

/// Cuts the power of a domain that this very run has started.
pub(super) fn destroy(world: &World, name: &Name) -> anyhow::Result<()> {
    find(world, name)?.map_or(Ok(()), |domain| Ok(domain.destroy()?))
}

/// Sets what can be set live; a new maximum is defined, and holds from the next start.
pub(super) fn resize(
    world: &World,
    name: &Name,
    memory: Range<Size>,
    vcpus: Range<u32>,
    scope: &Scope,
) -> anyhow::Result<()> {
    let domain = expect(world, name)?;
    let config = domain.config()?;
    if (config.memory.maximum, config.vcpus.maximum) != (memory.maximum, vcpus.maximum) {
        let digest = config
            .ownership
            .map(|owner| owner.digest)
            .with_context(|| format!("the domain `{name}` lost its mark"))?;
        define(world, name, &digest, scope)?;
    }
    let Some(live) = domain.live()? else {
        domain.set_memory(memory.current, Affect::Config)?;
        domain.set_vcpus(vcpus.current, Affect::Config)?;
        return Ok(());
    };
    if memory.current <= live.memory.maximum {
        domain.set_memory(memory.current, Affect::Both)?;
    } else {
        domain.set_memory(memory.current, Affect::Config)?;
        scope.note(format!(
            "`{name}` gets its {} at its next start: it runs with {} at most",
            memory.current, live.memory.maximum
        ));
    }
    if vcpus.current <= live.vcpus.maximum {
        domain.set_vcpus(vcpus.current, Affect::Both)?;
    } else {
        domain.set_vcpus(vcpus.current, Affect::Config)?;
        scope.note(format!(
            "`{name}` gets its {} vCPUs at its next start: it runs with {} at most",
            vcpus.current, live.vcpus.maximum
        ));
    }
    Ok(())
}
