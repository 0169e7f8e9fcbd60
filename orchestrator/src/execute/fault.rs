//! Faults: what the lab's bridge does not forward, and network links.

use std::collections::BTreeSet;

use pspd_model::definition::Interface;
use pspd_model::fault::Cut;
use pspd_model::plan::Link;
use pspd_model::spec::Name;

use super::World;
use super::domain::expect;
use crate::cuts;

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
