//! Freezes a running deployment's disks while they are read, and merges what was written meanwhile.
//!
//! All domains are paused while their snapshots are taken, so that the archive is of one instant. However an export ends,
//! [`merge`] brings each domain back to its disks: at once, or when the next `up` finds an overlay.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pspd_model::spec::{Name, Spec};

use crate::disk;
use crate::event::Scope;
use crate::libvirt::{Connection, Domain};
use crate::state::{Home, remove_if_there};

/// Freezes the disks of the named, running domains at one instant; returns for how long they were paused. After an error
/// all of them run, and overlays may be left.
pub fn freeze(connection: &Connection, spec: &Spec, names: &[&Name]) -> Result<Duration> {
    let mut domains = Vec::new();
    for name in names {
        let domain = find(connection, spec, name)?;
        let domain = domain.with_context(|| format!("the domain `{name}` is gone"))?;
        let live = domain.live()?;
        let live = live.with_context(|| format!("the domain `{name}` does not run any longer"))?;
        domains.push((domain, live));
    }
    let began = Instant::now();
    let mut paused: Vec<&Domain> = Vec::new();
    let frozen = domains.iter().try_for_each(|(domain, _)| {
        domain.suspend()?;
        paused.push(domain);
        Ok(())
    });
    let frozen = frozen.and_then(|()| {
        let mut all = domains.iter();
        all.try_for_each(|(domain, live)| domain.snapshot(live))
    });
    // All of them are resumed, even if others failed.
    let resumed: Vec<_> = paused.iter().map(|domain| domain.resume()).collect();
    let paused_for = began.elapsed();
    frozen?;
    resumed.into_iter().collect::<Result<(), _>>()?;
    Ok(paused_for)
}

/// Merges a domain's overlays into its disks, whether it runs or not, and removes them.
pub fn merge(
    connection: &Connection,
    home: &Home,
    spec: &Spec,
    name: &Name,
    scope: &Scope,
) -> Result<()> {
    let overlays = disk::overlays(home, spec, name)?;
    scope.stage("merging its snapshot");
    match find(connection, spec, name)? {
        Some(domain) if domain.power()?.has_process() => {
            domain.merge(|done, total| scope.progress(done, Some(total)))?;
        }
        Some(domain) => {
            let used = domain.config()?.disks;
            let used =
                |overlay: &&PathBuf| used.iter().any(|disk| disk.path.as_ref() == Some(*overlay));
            for overlay in overlays.iter().filter(used) {
                disk::commit(overlay)?;
            }
            domain.forget_overlays()?;
        }
        // Its lab is gone, and with it the definition: what was written last is in the overlay.
        None => overlays
            .iter()
            .try_for_each(|overlay| disk::commit(overlay))?,
    }
    overlays
        .iter()
        .try_for_each(|overlay| remove_if_there(overlay))
}

fn find(connection: &Connection, spec: &Spec, name: &Name) -> Result<Option<Domain>> {
    Ok(connection.domain(&spec.name, name.as_str())?)
}
