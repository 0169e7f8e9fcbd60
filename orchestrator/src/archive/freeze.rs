//! Holds a running deployment's disks still while they are read, and lets them go on after.
//!
//! All domains are paused for the moment that their snapshots take, so that the archive is of one instant. Whatever
//! happens then, [`merge`] brings each domain back: at once, or when the next `up` sees an overlay that was left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::event::Scope;
use crate::libvirt::{Connection, Domain, SNAPSHOT};
use crate::plan::volume_file;
use crate::spec::{Name, Spec};
use crate::state::{Home, remove_if_there};

/// Freezes the disks of the named, running domains at one instant; says for how long they stood still. On an error all
/// of them run, and overlays may be left.
pub fn freeze(connection: &Connection, spec: &Spec, names: &[&Name]) -> Result<Duration> {
    let mut domains = Vec::new();
    for name in names {
        let domain = find(connection, spec, name)?;
        let domain = domain.with_context(|| format!("the domain `{name}` is gone"))?;
        let live = domain.live()?;
        let live = live.with_context(|| format!("the domain `{name}` does not run any more"))?;
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
    // Every one goes on, whatever became of the others.
    let resumed: Vec<_> = paused.iter().map(|domain| domain.resume()).collect();
    let stood_still = began.elapsed();
    frozen?;
    resumed.into_iter().collect::<Result<(), _>>()?;
    Ok(stood_still)
}

/// Merges a domain's overlays into its disks, whether it runs or not, and removes them.
pub fn merge(
    connection: &Connection,
    home: &Home,
    spec: &Spec,
    name: &Name,
    scope: &Scope,
) -> Result<()> {
    let overlays = overlays(home, spec, name)?;
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
                commit(overlay)?;
            }
            domain.forget_overlays()?;
        }
        // Its lab is gone, and with it the definition: what was written last is in the overlay.
        None => overlays.iter().try_for_each(|overlay| commit(overlay))?,
    }
    overlays
        .iter()
        .try_for_each(|overlay| remove_if_there(overlay))
}

/// The domains of the spec that an overlay was left of.
pub fn left_overs(home: &Home, spec: &Spec) -> Result<Vec<Name>> {
    let mut left = Vec::new();
    for name in spec.domains.keys() {
        if !overlays(home, spec, name)?.is_empty() {
            left.push(name.clone());
        }
    }
    Ok(left)
}

fn overlays(home: &Home, spec: &Spec, name: &Name) -> Result<Vec<PathBuf>> {
    let mut disks = vec![home.disk(name)];
    let volumes = spec
        .domains
        .get(name)
        .into_iter()
        .flat_map(|domain| &domain.volumes);
    disks.extend(volumes.map(|volume| home.volumes().join(volume_file(name, &volume.name))));
    let mut found = Vec::new();
    for disk in disks {
        let overlay = disk.with_extension(format!("qcow2.{SNAPSHOT}"));
        let there = overlay
            .try_exists()
            .with_context(|| format!("failed to look for `{}`", overlay.display()))?;
        found.extend(there.then_some(overlay));
    }
    Ok(found)
}

fn find(connection: &Connection, spec: &Spec, name: &Name) -> Result<Option<Domain>> {
    Ok(connection.domain(&spec.name, name.as_str())?)
}

/// Merges an overlay that nothing has open.
fn commit(overlay: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["commit", "-q", "-f", "qcow2", "--"])
        .arg(overlay)
        .output()
        .context("failed to run `qemu-img`; install qemu-utils")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "failed to merge `{}` into its disk: {}",
            overlay.display(),
            said.trim()
        );
    }
    Ok(())
}
