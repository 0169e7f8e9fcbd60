//! The sizes of an archive's disks, compared with its spec's: `up` grows a disk, and never shrinks one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use pspd_model::spec::{ImageSource, Spec};

use super::entry::{Content, Entry};

/// Refuses disks that `up` would refuse. Every disk has its place in the spec, whose files are in `folder`.
pub(super) fn check(files: &[Entry], spec: &Spec, folder: &Path) -> Result<()> {
    let mut images = BTreeMap::new();
    for entry in files {
        if let Content::Image { virtual_size } = entry.content {
            images.insert(folder.join(entry.name.as_str()), virtual_size);
        }
    }
    // By domain: what its image must fit into.
    let domains = spec.domains.values();
    let mut systems: BTreeMap<_, _> = domains
        .map(|domain| (&domain.name, domain.system_disk.0))
        .collect();
    for entry in files {
        let (have, want) = match &entry.content {
            Content::System {
                domain,
                virtual_size,
                ..
            } => {
                let system = systems.get_mut(domain);
                let want = system.as_deref().copied();
                if let Some(system) = system {
                    *system = (*system).min(*virtual_size);
                }
                (virtual_size, want)
            }
            Content::Volume {
                domain,
                volume,
                virtual_size,
            } => {
                let domain = spec.domains.get(domain);
                let mut volumes = domain.into_iter().flat_map(|domain| &domain.volumes);
                let volume = volumes.find(|one| one.name == *volume);
                (virtual_size, volume.map(|one| one.size.0))
            }
            _ => continue,
        };
        let want = want.with_context(|| format!("the spec has no disk `{}`", entry.name))?;
        ensure!(
            *have <= want,
            "`{}` has {have} bytes, and its size in the spec is {want}: disks cannot shrink",
            entry.name
        );
    }
    for (name, system) in systems {
        let image = &spec.images[&spec.domains[name].image];
        let ImageSource::Path { path, .. } = &image.source else {
            continue;
        };
        let have = images.get(path).copied().unwrap_or_default();
        ensure!(
            have <= system,
            "the image of `{name}` has {have} bytes, and its system disk has {system}"
        );
    }
    Ok(())
}
