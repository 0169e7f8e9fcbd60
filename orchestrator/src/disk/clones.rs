//! Clones: deployments whose disks are over the layers of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::layers::{below, chain, files};
use crate::state::Home;

/// The deployments whose disks are over layers of this one, and the names of those layers' files.
pub fn clones(home: &Home) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let [system, volumes] = home.layer_folders().map(|folder| files(&folder));
    if system?.is_empty() && volumes?.is_empty() {
        // Whatever is wrong with others, they need nothing of this one.
        return Ok(BTreeMap::new());
    }
    let folders = home.layer_folders().map(|folder| canonical(&folder));
    let is_own = |file: &Path| {
        let folder = file.parent();
        folder.is_some_and(|folder| folders.iter().any(|own| own == folder))
    };
    let mut clones = BTreeMap::new();
    for other in home.others()? {
        let needed = layers_below(&other, &is_own).with_context(|| {
            format!(
                "failed to find out which disks the deployment `{}` needs",
                other.deployment()
            )
        })?;
        if !needed.is_empty() {
            clones.insert(other.deployment(), needed);
        }
    }
    Ok(clones)
}

/// The files of the layers that snapshots keep, or that clones are over.
pub fn kept_layers(home: &Home) -> Result<BTreeSet<String>> {
    let mut kept = home.layers_of_snapshots()?;
    kept.extend(clones(home)?.into_values().flatten());
    Ok(kept)
}

/// All layers below the disks of a deployment that `is_own`.
fn layers_below(home: &Home, is_own: &impl Fn(&Path) -> bool) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let disks = [home.disks(), home.volumes()];
    for folder in disks.into_iter().chain(home.layer_folders()) {
        for file in files(&folder)? {
            let Some(below) = of_present(below(&file))?.flatten() else {
                continue;
            };
            if is_own(&below) {
                let layers = chain(&below)?.into_iter().filter(|layer| is_own(layer));
                names.extend(
                    layers.filter_map(|layer| {
                        Some(layer.file_name()?.to_string_lossy().into_owned())
                    }),
                );
            }
        }
    }
    Ok(names)
}

/// `None` where the file is gone: another command may be at work in that deployment.
fn of_present<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error)
            if error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<io::Error>())
                .any(|cause| cause.kind() == io::ErrorKind::NotFound) =>
        {
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// As overlays name it.
fn canonical(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}
