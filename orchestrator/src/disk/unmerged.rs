//! The overlays that an interrupted export left.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use pspd_model::spec::{Name, Spec};

use super::layers::head;
use super::overlay::overlay;
use crate::state::Home;

/// The overlays of a domain's disks that exist.
pub fn overlays(home: &Home, spec: &Spec, name: &Name) -> Result<Vec<PathBuf>> {
    let mut disks = vec![home.disk(name)];
    let volumes = spec
        .domains
        .get(name)
        .into_iter()
        .flat_map(|domain| &domain.volumes);
    // An export by an earlier version may have been interrupted.
    let files = volumes.map(|volume| volume.of(name));
    let files = files.flat_map(|id| [id.file(), id.old_file()]);
    disks.extend(files.map(|file| home.volumes().join(file)));
    let mut found = Vec::new();
    for disk in disks {
        let overlay = overlay(&head(&disk)?);
        let exists = overlay
            .try_exists()
            .with_context(|| format!("failed to look for `{}`", overlay.display()))?;
        found.extend(exists.then_some(overlay));
    }
    Ok(found)
}

/// The domains with an overlay, which an interrupted export left.
pub fn domains_with_overlays(home: &Home, spec: &Spec) -> Result<Vec<Name>> {
    let mut left = Vec::new();
    for name in spec.domains.keys() {
        if !overlays(home, spec, name)?.is_empty() {
            left.push(name.clone());
        }
    }
    Ok(left)
}
