//! Domains: their definitions, their power and their size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use ipnet::Ipv4Net;
use pspd_model::definition::{Affect, DirectKernel, DomainDefinition, KernelSource};
use pspd_model::plan::{SavedState, StopMode};
use pspd_model::spec::{DomainSpec, Name, Push, RELEASE_DISK, SYSTEM_DISK, Seed, Size};
use ssh_key::LineEnding;

use super::{World, firmware};
use crate::boot::Boot;
use crate::disk::qcow2::stamp;
use crate::disk::{self, LayeredDisk, layers, release};
use crate::event::Scope;
use crate::image::{self, GuestImage, NoCloud};
use crate::libvirt::{Disk, DiskFormat, Domain, DomainConfig, Error, FwCfg};
use crate::reach::Reach;
use crate::state::remove_if_there;

/// How long a guest may take to shut down; pspd's own images take two seconds under emulation.
const SHUTDOWN: Duration = Duration::from_secs(30);

pub(super) fn define(
    world: &World,
    definition: &DomainDefinition,
    scope: &Scope,
) -> anyhow::Result<()> {
    let config = resolve(world, definition, scope)?;
    discard_saved_state(world, &definition.name)?;
    world.connection()?.define_domain(&config)?;
    Ok(())
}

/// Before a definition changes: libvirt would restore the machine of the old one. So no interruption leaves a saved state
/// beside a definition that it is not of.
fn discard_saved_state(world: &World, name: &Name) -> anyhow::Result<()> {
    find(world, name)?.map_or(Ok(()), |domain| Ok(domain.discard_saved_state()?))
}

/// Looks up what a definition names: the image, the ROM, the keys, the accelerator.
fn resolve(
    world: &World,
    definition: &DomainDefinition,
    scope: &Scope,
) -> anyhow::Result<DomainConfig> {
    let name = &definition.name;
    let identity = world.identity()?;
    let image = world.image(&definition.image, scope)?;
    Ok(DomainConfig {
        name: name.clone(),
        ownership: definition.ownership.clone(),
        accelerator: world.accelerator(definition.accel, &image)?,
        machine: definition.machine,
        firmware: firmware::loader(world, definition, scope)?,
        kernel: kernel(definition, &image)?,
        memory: definition.memory,
        vcpus: definition.vcpus,
        disks: disks(world, definition, &image)?,
        interfaces: vec![definition.interface.clone()],
        oem_strings: identity.oem_strings(&world.spec, name)?,
        fw_cfg: vec![FwCfg::host_key(identity.host_key_file(name))],
        serial_log: world.home.console_log(name),
        firmware_log: world.home.firmware_log(name),
    })
}

/// The image's kernel in the format that the definition asks for.
fn kernel(
    definition: &DomainDefinition,
    image: &GuestImage,
) -> anyhow::Result<Option<DirectKernel>> {
    if definition.kernel == KernelSource::Guest {
        return Ok(None);
    }
    let mut kernel = image.kernel.clone().with_context(|| {
        format!(
            "the image `{}` has no kernel of its own; set `boot: disk` for `{}`",
            definition.image, definition.name
        )
    })?;
    if definition.kernel == KernelSource::HypervisorBzImage {
        kernel.kernel = image::bz_image(&kernel);
    }
    Ok(Some(kernel))
}

fn disks(
    world: &World,
    definition: &DomainDefinition,
    image: &GuestImage,
) -> anyhow::Result<Vec<Disk>> {
    let name = &definition.name;
    let mut disks = vec![Disk {
        path: layers::head(&world.home.disk(name))?,
        format: DiskFormat::Qcow2,
        serial: SYSTEM_DISK.into(),
        read_only: false,
    }];
    for volume in &definition.volumes {
        disks.push(Disk {
            path: layers::head(&world.home.volumes().join(&volume.file))?,
            format: DiskFormat::Qcow2,
            serial: volume.serial.clone(),
            read_only: false,
        });
    }
    if image.seed == Seed::Nocloud {
        let path = world.home.seed(name);
        write_seed(world, &world.spec.domains[name], &path)?;
        disks.push(Disk {
            path,
            format: DiskFormat::Raw,
            serial: "seed".into(),
            read_only: true,
        });
    }
    let path = world.home.release_disk(name);
    match definition.push {
        Push::Ssh => remove_if_there(&path)?,
        Push::Auto => {
            release::ensure(&path)?;
            // The last one: a change of `push` renames no other disk of the guest.
            disks.push(Disk {
                path,
                format: DiskFormat::Raw,
                serial: RELEASE_DISK.into(),
                read_only: true,
            });
        }
    }
    Ok(disks)
}

fn write_seed(world: &World, domain: &DomainSpec, path: &Path) -> anyhow::Result<()> {
    let network = &world.spec.network;
    let identity = world.identity()?;
    let host_key = identity
        .host_key(&domain.name)?
        .to_openssh(LineEnding::LF)
        .context("failed to write the host key")?;
    let authorized_key = identity
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

pub(super) fn expect(world: &World, name: &Name) -> anyhow::Result<Domain> {
    find(world, name)?.ok_or_else(|| {
        anyhow!("the domain `{name}` no longer exists; something undefined it meanwhile")
    })
}

pub(super) fn set_autostart(world: &World, name: &Name, autostart: bool) -> anyhow::Result<()> {
    Ok(expect(world, name)?.set_autostart(autostart)?)
}

pub(super) fn start(world: &World, name: &Name, saved_state: SavedState) -> anyhow::Result<()> {
    let domain = expect(world, name)?;
    // What is known of the last boot no longer holds, even if this one fails.
    Boot::forget(&world.home, name)?;
    if saved_state == SavedState::Discard {
        domain.discard_saved_state()?;
    }
    world.home.forget_memory(name)?;
    let disks = attach_disks(world, name, &domain)?;
    for disk in disks.values() {
        stamp::renew(disk)?;
    }
    record_attached(world, name, &disks)?;
    forget_neighbor(world, name)?;
    world.watch_boot(name)?;
    Ok(domain.start()?)
}

/// The lab may still have the MAC of a guest that had the address before; a guest of another system announces nothing.
pub(super) fn forget_neighbor(world: &World, name: &Name) -> anyhow::Result<()> {
    let Reach::Lab(lab) = world.reach()? else {
        return Ok(());
    };
    let address = world.spec.domains[name].address.to_string();
    let flushed = lab
        .enter(["ip", "neigh", "flush", "to", &address])?
        .output()
        .context("failed to run `ip`")?;
    ensure!(
        flushed.status.success(),
        "failed to clear the neighbor entry of {address}: {}",
        String::from_utf8_lossy(&flushed.stderr).trim()
    );
    Ok(())
}

/// Makes sure that a domain's definition has the heads of its disks, and empties its release disk. Returns the heads by serial.
pub(super) fn attach_disks(
    world: &World,
    name: &Name,
    domain: &Domain,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let (mut heads, mut others) = (BTreeMap::new(), BTreeMap::new());
    for disk in domain.config()?.disks {
        let (Some(serial), Some(path)) = (disk.serial, disk.path) else {
            continue;
        };
        if path == world.home.release_disk(name) {
            release::renew(&path)?;
        }
        if disk.read_only {
            continue;
        }
        let head = layers::head(&LayeredDisk::new(&world.home, name, &serial).path)?;
        if head != path {
            others.insert(path, head.clone());
        }
        heads.insert(serial, head);
    }
    if !others.is_empty() {
        domain.replace_disks(|path| others.get(path).cloned())?;
    }
    Ok(heads)
}

/// Records the files that a domain has open as its disks, or is about to open.
pub(super) fn record_attached(
    world: &World,
    name: &Name,
    heads: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<()> {
    let mut files = BTreeMap::new();
    for (serial, path) in heads {
        files.extend(disk::opened(path)?.map(|file| (serial.clone(), file)));
    }
    world.home.record_attached(name, &files)
}

/// Presses the power button of a machine that starts again when its guest is off.
pub(super) fn restart(world: &World, name: &Name, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("restarting");
    let domain = expect(world, name)?;
    Boot::forget(&world.home, name)?;
    world.watch_restart(name)?;
    match domain.reboot(SHUTDOWN, &world.cancel) {
        Ok(()) => Ok(()),
        Err(error @ Error::Cancelled { .. }) => Err(error.into()),
        Err(error) => {
            scope.note(format!(
                "`{name}` did not restart ({error}); forcing it off and starting it"
            ));
            domain.destroy()?;
            start(world, name, SavedState::Restore)
        }
    }
}

pub(super) fn resume(world: &World, name: &Name) -> anyhow::Result<()> {
    // A restore may have been interrupted.
    world.home.forget_memory(name)?;
    Ok(expect(world, name)?.resume()?)
}

pub(super) fn pause(world: &World, name: &Name) -> anyhow::Result<()> {
    Ok(expect(world, name)?.suspend()?)
}

/// Freezes its disks; from now on the domain writes to overlays.
pub(super) fn freeze(world: &World, name: &Name) -> anyhow::Result<()> {
    let domain = expect(world, name)?;
    let live = domain.live()?;
    let live = live.with_context(|| format!("the domain `{name}` is no longer running"))?;
    Ok(domain.snapshot(&live)?)
}

pub(super) fn wake(world: &World, name: &Name) -> anyhow::Result<()> {
    Ok(expect(world, name)?.wake()?)
}

/// Presses the power button, and forces the domain off if the guest does not react.
pub(super) fn stop(
    world: &World,
    name: &Name,
    mode: StopMode,
    scope: &Scope,
) -> anyhow::Result<()> {
    let Some(domain) = find(world, name)? else {
        return Ok(());
    };
    if mode == StopMode::Force {
        return Ok(domain.destroy()?);
    }
    scope.stage("shutting down");
    match domain.shutdown(SHUTDOWN, &world.cancel) {
        Ok(()) => Ok(()),
        Err(error @ Error::Cancelled { .. }) => Err(error.into()),
        Err(error) => {
            scope.note(format!(
                "`{name}` did not shut down ({error}); forcing it off"
            ));
            Ok(domain.destroy()?)
        }
    }
}

pub(super) fn undefine(world: &World, name: &Name) -> anyhow::Result<()> {
    world.home.forget_file_systems_due(name)?;
    find(world, name)?.map_or(Ok(()), |domain| domain.undefine())?;
    remove_if_there(&world.home.release_disk(name))
}

/// Forces off a domain that this run started.
pub(super) fn destroy(world: &World, name: &Name) -> anyhow::Result<()> {
    find(world, name)?.map_or(Ok(()), |domain| Ok(domain.destroy()?))
}

/// Sets memory, of the definition alone or of the running domain as well, and the definition's vCPUs.
pub(super) fn resize(
    world: &World,
    name: &Name,
    memory: Size,
    memory_affects: Affect,
    vcpus: u32,
) -> anyhow::Result<()> {
    discard_saved_state(world, name)?;
    let domain = expect(world, name)?;
    domain.set_memory(memory, memory_affects)?;
    domain.set_vcpus(vcpus)?;
    Ok(())
}
