//! The deployment's network.

use anyhow::anyhow;
use pspd_model::definition::NetworkDefinition;

use super::World;
use crate::libvirt::Network;

pub(super) fn define(world: &World, definition: &NetworkDefinition) -> anyhow::Result<()> {
    world.connection()?.define_network(definition)?;
    Ok(())
}

pub(super) fn start(world: &World) -> anyhow::Result<()> {
    let network = find(world)?.ok_or_else(|| {
        anyhow!(
            "the network `{}` no longer exists; something removed it meanwhile",
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
