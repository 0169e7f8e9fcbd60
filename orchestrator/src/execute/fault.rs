//! Faults: what the lab's bridge does not forward, network links, and what is done in guests.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::ensure;

use pspd_model::definition::Interface;
use pspd_model::fault::Cut;
use pspd_model::harm::{Disturbance, Throttle};
use pspd_model::hint::Hinted;
use pspd_model::observed::{Disturbed, Power, Shaping};
use pspd_model::plan::{Link, ServiceOrder};
use pspd_model::shape::Route;
use pspd_model::spec::Name;

use super::World;
use super::domain::expect;
use crate::cancelled::Cancelled;
use crate::cuts;

/// From the order to panic to libvirt's report of it, natively.
const PANIC: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn set_cuts(world: &World, cuts: &BTreeSet<Cut>) -> anyhow::Result<()> {
    cuts::write(&world.lab()?, cuts)
}

pub(super) fn set_link(world: &World, name: &Name, link: Link) -> anyhow::Result<()> {
    let interface = Interface {
        network: world.spec.network.name.clone(),
        mac: world.spec.domains[name].mac,
    };
    Ok(expect(world, name)?.set_link(&interface, link)?)
}

/// Recorded before and after: what a killed run left is replaced.
pub(super) fn shape(
    world: &World,
    name: &Name,
    address: Ipv4Addr,
    routes: &[Route],
) -> anyhow::Result<()> {
    let shaping = |complete| Shaping {
        routes: routes.to_vec(),
        complete,
    };
    world.home.record_guest(name, &shaping(false))?;
    world.guest(name)?.shape(address, routes)?;
    if routes.is_empty() {
        world.home.forget_guest_record::<Shaping>(name)
    } else {
        world.home.record_guest(name, &shaping(true))
    }
}

pub(super) fn throttle(
    world: &World,
    name: &Name,
    serial: &str,
    limit: Throttle,
) -> anyhow::Result<()> {
    let domain = expect(world, name)?;
    let live = domain.live()?;
    let mut disks = live.iter().flat_map(|live| &live.disks);
    let disk = disks.find(|disk| disk.serial.as_deref() == Some(serial));
    let disk = disk.ok_or_else(|| {
        let message = format!("the running domain `{name}` has no disk `{serial}`");
        Hinted::new(message, "Run `pspd up` to attach it")
    })?;
    Ok(domain.throttle(&disk.target, limit)?)
}

/// Recorded before and after, as shaping is.
pub(super) fn disturb(world: &World, name: &Name, by: &Disturbance) -> anyhow::Result<()> {
    let disturbed = |complete| Disturbed {
        by: by.clone(),
        complete,
    };
    world.home.record_guest(name, &disturbed(false))?;
    let guest = world.guest(name)?;
    guest.disturb(name, by)?;
    guest.set_clock(by.clock)?;
    if by.is_none() {
        world.home.forget_guest_record::<Disturbed>(name)
    } else {
        world.home.record_guest(name, &disturbed(true))
    }
}

/// Returns when libvirt reports the panic.
pub(super) fn panic(world: &World, name: &Name) -> anyhow::Result<()> {
    let domain = expect(world, name)?;
    world.guest(name)?.panic()?;
    let (began, limit) = (Instant::now(), world.patience(PANIC));
    while domain.power()? == Power::Running {
        ensure!(
            began.elapsed() < limit,
            "`{name}` did not panic within {} s, or did not report it. Reporting needs a `panic` device and a driver in the \
             guest's kernel",
            limit.as_secs()
        );
        if world.cancel.is_cancelled() {
            return Err(Cancelled::during("waiting for the kernel's panic").into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

pub(super) fn set_service(world: &World, name: &Name, order: ServiceOrder) -> anyhow::Result<()> {
    world.guest(name)?.order(name, order)
}
