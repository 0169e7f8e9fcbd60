//! The lab and the ports that it publishes.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, ensure};
use pspd_lab::{FrontSettings, Lab};
use pspd_model::publish::Target;

use super::World;
use crate::event::Scope;
use crate::folder;
use crate::identity;

pub(super) fn start(world: &World, scope: &Scope) -> anyhow::Result<()> {
    keep_libvirts_cache(world)?;
    let (lab, notes) = Lab::start(&world.home.lab())?;
    for note in notes {
        scope.note(note);
    }
    let connected = world.set_lab(Some(lab.clone()));
    if connected.is_err() {
        // Nobody can use it. The error that counts is the first one.
        let _ = lab.stop();
    }
    connected
}

/// What libvirt learns of QEMU takes it half a second: all labs share it, and it outlives them.
fn keep_libvirts_cache(world: &World) -> anyhow::Result<()> {
    let (kept, link) = (world.cache.join("libvirt"), world.home.lab().join("cache"));
    let linked = fs::create_dir_all(&kept)
        .and_then(|()| fs::create_dir_all(world.home.lab()))
        .and_then(|()| symlink(&kept, &link));
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("failed to link `{}`", link.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn stop(world: &World) -> anyhow::Result<()> {
    let lab = world.lab()?;
    // The connection must be closed while its daemon is there to answer.
    world.set_lab(None)?;
    lab.stop()
}

pub(super) fn stop_relay(world: &World) -> anyhow::Result<()> {
    world.relay()?.stop()
}

pub(super) fn remove(world: &World) -> anyhow::Result<()> {
    folder::remove(&world.home.lab())
}

/// Publishes a guest's port, or changes the front that is published.
pub(super) fn publish(world: &World, host: SocketAddr, to: &Target) -> anyhow::Result<()> {
    let Some(front) = &to.front else {
        return world.relay()?.publish(host, to.guest);
    };
    let pem = identity::front_certificate(&world.home.keys(), host, front)?;
    ensure!(
        pem.is_some() == front.tls.is_some(),
        "the certificate of {host} is missing; `pspd up` creates it"
    );
    let settings = FrontSettings {
        guest: to.guest,
        hosts: front.hosts.clone(),
        certificate: pem.as_ref().map(|pem| pem.digest().to_string()),
    };
    world.relay()?.front(host, settings, pem.map(|pem| pem.0))
}

pub(super) fn unpublish(world: &World, host: SocketAddr) -> anyhow::Result<()> {
    world.relay()?.unpublish(host)
}
