//! The deployment's network.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use pspd_model::definition::NetworkDefinition;

use super::World;
use crate::dns;
use crate::libvirt::Network;
use crate::reach::Reach;

/// From the start of dnsmasq to its first answer.
const DNS: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(100);

pub(super) fn define(world: &World, definition: &NetworkDefinition) -> anyhow::Result<()> {
    world.connection()?.define_network(definition)?;
    Ok(())
}

pub(super) fn start(world: &World) -> anyhow::Result<()> {
    Ok(expect(world)?.start()?)
}

pub(super) fn set_autostart(world: &World, autostart: bool) -> anyhow::Result<()> {
    Ok(expect(world)?.set_autostart(autostart)?)
}

/// Starts the DNS and DHCP server again. One that hangs is ended first, where it is in a lab of ours.
pub(super) fn restore_dns(world: &World) -> anyhow::Result<()> {
    let (network, reach) = (expect(world)?, world.reach()?);
    network.refresh()?;
    if answers_soon(world, &reach) {
        return Ok(());
    }
    let name = &world.spec.network.name;
    if let Reach::Lab(lab) = &reach {
        let end = format!("kill -KILL \"$(cat /run/libvirt/network/{name}.pid)\"");
        // Without a process to end, the next attempt fails.
        let _ = lab.enter(["sh", "-c", &end])?.output();
        network.refresh()?;
        if answers_soon(world, &reach) {
            return Ok(());
        }
    }
    bail!(
        "the DNS server of the network `{name}` does not answer. If its process `dnsmasq` still runs, end it, and run \
         `pspd up` again"
    )
}

fn answers_soon(world: &World, reach: &Reach) -> bool {
    let deadline = Instant::now() + DNS;
    loop {
        if dns::answers(reach, &world.spec) {
            return true;
        }
        if Instant::now() >= deadline || world.cancel.is_cancelled() {
            return false;
        }
        std::thread::sleep(RETRY);
    }
}

pub(super) fn stop(world: &World) -> anyhow::Result<()> {
    find(world)?.map_or(Ok(()), |network| Ok(network.destroy()?))
}

pub(super) fn undefine(world: &World) -> anyhow::Result<()> {
    find(world)?.map_or(Ok(()), |network| Ok(network.undefine()?))
}

fn expect(world: &World) -> anyhow::Result<Network> {
    find(world)?.ok_or_else(|| {
        anyhow!(
            "the network `{}` no longer exists; something removed it meanwhile",
            world.spec.network.name
        )
    })
}

fn find(world: &World) -> anyhow::Result<Option<Network>> {
    Ok(world
        .connection()?
        .network(&world.spec.name, &world.spec.network.name)?)
}
