//! From a checked manifest to a deployment of this host: its files beside a topology.yaml, its disks in the state folder.

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use pspd_model::spec::{ImageSource, Name, VolumeId};
use tokio_util::sync::CancellationToken;

use super::import::Opened;
use super::manifest::{Content, Entry, IMPORTED, Manifest, Secret};
use crate::disk;
use crate::placement::{Placement, Staging, Taken, Wanted};
use crate::state::{Paths, create_private, write_atomically};
use crate::tree;

/// Decides what the deployment becomes on this host; creates nothing.
pub fn placement(
    manifest: &Manifest,
    wanted: Wanted,
    taken: &Taken,
    paths: &Paths,
) -> Result<Placement> {
    let topology = manifest.topology()?.clone();
    Placement::decide(topology, IMPORTED, wanted, taken, paths, |text, folder| {
        manifest.spec_of(text, folder)
    })
}

/// What reaches further than this host, or is shared with another: a person decides whether it is wanted.
pub fn warnings(placement: &Placement, manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, domain) in &placement.spec.domains {
        for publish in &domain.publish {
            if !publish.host.ip().is_loopback() {
                warnings.push(format!(
                    "other machines can reach `{name}` on {}",
                    publish.host
                ));
            }
        }
    }
    let files = manifest.files.iter();
    let keys = files.filter(|entry| matches!(entry.content, Content::Secret { .. }));
    match keys.count() {
        0 => {}
        count => warnings.push(format!(
            "the archive contains {count} private keys and secrets, which every holder of the archive has"
        )),
    }
    warnings
}

/// Unpacks and places all of the archive. Files get their names at the end, and after an error nothing is left. The caller
/// holds the deployment's lock.
pub fn place(placement: &Placement, opened: Opened, cache: &Path) -> Result<()> {
    let cancel = &opened.cancel().clone();
    let place = Place {
        placement,
        cache,
        cancel,
    };
    placement.place(|own, state| place.fill(opened, own, state))
}

struct Place<'a> {
    placement: &'a Placement,
    cache: &'a Path,
    cancel: &'a CancellationToken,
}

impl Place<'_> {
    fn fill(&self, opened: Opened, own: &Staging, state: &Staging) -> Result<()> {
        let files = opened.manifest.files.clone();
        opened.read(|entry| {
            let name = entry.name.as_str();
            Ok(match entry.content {
                Content::Plain {} => None,
                Content::Image { .. } | Content::Folder {} => Some(own.file(name)?),
                Content::File { mode } => {
                    let file = own.file(name)?;
                    // The bits alone, and always readable for its owner.
                    let mode = fs::Permissions::from_mode(mode & 0o777 | 0o400);
                    file.set_permissions(mode)
                        .with_context(|| format!("failed to set the mode of `{name}`"))?;
                    Some(file)
                }
                Content::System { .. } | Content::Volume { .. } | Content::Secret { .. } => {
                    Some(state.file(name)?)
                }
            })
        })?;
        for entry in &files {
            match entry.content {
                Content::Folder {} => self.unpack(entry.name.as_str(), own)?,
                _ => self.take(entry, state)?,
            }
        }
        Ok(())
    }

    /// Puts a directory in the place of its tar, which was checked.
    fn unpack(&self, name: &str, own: &Staging) -> Result<()> {
        // No file of an archive has this name.
        let (tar, folder) = (own.within(name), own.within(".unpacked"));
        let file = fs::File::open(&tar);
        let file = file.with_context(|| format!("failed to read `{name}`"))?;
        tree::unpack(BufReader::new(file), &folder, self.cancel)
            .with_context(|| format!("failed to unpack `{name}`"))?;
        fs::remove_file(&tar)
            .and_then(|()| fs::rename(&folder, &tar))
            .with_context(|| format!("failed to name the directory `{name}`"))
    }

    /// Brings a file of the state's staging folder to its place.
    fn take(&self, entry: &Entry, state: &Staging) -> Result<()> {
        let from = state.path(entry.name.as_str());
        let to = match &entry.content {
            Content::System { domain, .. } => {
                self.rebase(&from, domain)?;
                self.placement.home.disk(domain)
            }
            Content::Volume { domain, volume, .. } => {
                let (domain, volume) = (domain.clone(), volume.clone());
                let id = VolumeId { domain, volume };
                self.placement.home.volumes().join(id.file())
            }
            Content::Secret { key } => return self.take_secret(key, &from),
            Content::Plain {}
            | Content::Image { .. }
            | Content::File { .. }
            | Content::Folder {} => return Ok(()),
        };
        fs::rename(&from, &to)
            .with_context(|| format!("failed to move a file to `{}`", to.display()))
    }

    fn take_secret(&self, key: &Secret, from: &Path) -> Result<()> {
        let to = self.placement.home.keys().join(key.path());
        let text =
            fs::read(from).with_context(|| format!("failed to read `{}`", from.display()))?;
        create_private(to.parent().unwrap_or(Path::new("/")))?;
        write_atomically(&to, &text, 0o600)
    }

    /// Points a system disk to its image where this host's cache has it, or will have it after `up`.
    fn rebase(&self, overlay: &Path, domain: &Name) -> Result<()> {
        let spec = &self.placement.spec;
        let image = &spec.images[&spec.domains[domain].image];
        let ImageSource::Path { sha256, .. } = &image.source else {
            bail!("the image `{}` is not a file", image.name);
        };
        let base = crate::image::place(self.cache, sha256);
        disk::rebase(overlay, &base)?;
        fs::File::open(overlay)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("failed to flush `{}`", overlay.display()))
    }
}
