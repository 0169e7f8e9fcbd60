//! Merges what a domain wrote while its disks were frozen, in the export that froze them or in the next `up`.

use std::path::PathBuf;

use anyhow::Result;
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use crate::disk;
use crate::event::Scope;
use crate::libvirt::Connection;
use crate::state::{Home, remove_if_there};

/// Merges a domain's overlays into its disks, whether it runs or not, and removes them.
pub fn merge(
    connection: &Connection,
    home: &Home,
    spec: &Spec,
    name: &Name,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<()> {
    let overlays = disk::overlays(home, spec, name)?;
    scope.stage("merging its snapshot");
    match connection.domain(&spec.name, name.as_str())? {
        Some(domain) if domain.power()?.has_process() => {
            domain.merge(|done, total| scope.progress(done, Some(total)))?;
        }
        Some(domain) => {
            let used = domain.config()?.disks;
            let used =
                |overlay: &&PathBuf| used.iter().any(|disk| disk.path.as_ref() == Some(*overlay));
            for overlay in overlays.iter().filter(used) {
                disk::commit(overlay, cancel)?;
            }
            domain.forget_overlays()?;
        }
        // Its lab is gone, and with it the definition: what was written last is in the overlay.
        None => overlays
            .iter()
            .try_for_each(|overlay| disk::commit(overlay, cancel))?,
    }
    overlays
        .iter()
        .try_for_each(|overlay| remove_if_there(overlay))
}
