//! The lab and the ports that it publishes.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Context as _;

use super::World;
use crate::event::Scope;
use crate::lab::Lab;

pub(super) fn start(world: &World, scope: &Scope) -> anyhow::Result<()> {
    let (lab, notes) = Lab::start(&world.home.lab())?;
    for note in notes {
        scope.note(note);
    }
    world.set_lab(Some(lab))
}

pub(super) fn stop(world: &World) -> anyhow::Result<()> {
    let lab = world.lab()?;
    // The connection must be closed while its daemon is there to answer.
    world.set_lab(None)?;
    lab.stop()
}

pub(super) fn remove(world: &World) -> anyhow::Result<()> {
    let folder = world.home.lab();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn publish(world: &World, host: SocketAddr, guest: SocketAddr) -> anyhow::Result<()> {
    world.relay()?.publish(host, guest)
}

pub(super) fn unpublish(world: &World, host: SocketAddr) -> anyhow::Result<()> {
    world.relay()?.unpublish(host)
}
