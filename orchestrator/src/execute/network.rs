//! The deployment's network.

use anyhow::anyhow;

use super::World;
use crate::libvirt::{Network, NetworkDefinition, NetworkHost, Ownership};
use crate::spec::Digest;

pub(super) fn define(world: &World, digest: &Digest) -> anyhow::Result<()> {
    let spec = &world.spec;
    let hosts = spec.domains.values().map(|domain| NetworkHost {
        name: domain.name.clone(),
        mac: domain.mac,
        address: domain.address,
    });
    world.connection()?.define_network(&NetworkDefinition {
        name: spec.network.name.clone(),
        ownership: Ownership {
            deployment: spec.name.clone(),
            digest: digest.clone(),
        },
        cidr: spec.network.cidr,
        gateway: spec.network.gateway,
        domain: spec.network.domain.clone(),
        hosts: hosts.collect(),
    })?;
    Ok(())
}

pub(super) fn start(world: &World) -> anyhow::Result<()> {
    let network = find(world)?.ok_or_else(|| {
        anyhow!(
            "the network `{}` is gone; something removed it meanwhile",
            world.spec.network.name
        )
    })?;
    Ok(network.start()?)
}

pub(super) fn stop(world: &World) -> anyhow::Result<()> {
    find(world)?.map_or(Ok(()), |network| Ok(network.destroy()?))
}

pub(super) fn undefine(world: &World) -> anyhow::Result<()> {
    find(world)?.map_or(Ok(()), |network| Ok(network.undefine()?))
}

fn find(world: &World) -> anyhow::Result<Option<Network>> {
    Ok(world
        .connection()?
        .network(&world.spec.name, &world.spec.network.name)?)
}
