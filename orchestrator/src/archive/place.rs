//! From a checked manifest to a deployment of this host: its files beside a topology.yaml, its disks in the state folder.
//!
//! ```text
//! FOLDER/topology.yaml          what `pspd up` brings up; written last
//! FOLDER/base.*.qcow2, ...      images, ROMs, executables: what the topology names
//! STATE/deployments/NAME/       disks and volumes, renamed into place; `importing/` until all of it is complete
//! ```

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv4Net;
use pspd_model::spec::{ImageSource, Name, Spec, VolumeId};
use serde_json::{Value, json};

use super::import::Opened;
use super::manifest::{self, Content, Entry, Manifest, Secret};
use super::staging::{Staging, sync_parent};
use crate::disk;
use crate::folder;
use crate::state::{Home, Paths, create_private, write_atomically};

/// A mapping of a foreign spec. Its values have any shape: nothing of it is indexed.
pub(super) type Mapping = serde_json::Map<String, Value>;

/// What the topology's file is called.
pub const TOPOLOGY: &str = "topology.yaml";

/// What the user chose, beside the archive.
pub struct Wanted {
    /// The archive's own without it.
    pub name: Option<Name>,
    /// As topology.yaml has it.
    pub connection: String,
    /// Where the topology goes; a folder of the deployment's name without it.
    pub folder: Option<PathBuf>,
}

/// What is in use on this host.
pub struct Taken {
    /// Networks with a route.
    pub networks: Vec<Ipv4Net>,
    /// Whether something listens there.
    pub listening: fn(SocketAddr) -> bool,
}

/// Where an archive's deployment goes, and what it becomes there.
pub struct Placement {
    pub spec: Spec,
    pub folder: PathBuf,
    pub home: Home,
    /// What differs from the archive, for people.
    pub notes: Vec<String>,
    topology: Mapping,
}

/// Decides what the deployment becomes on this host; creates nothing.
pub fn placement(
    manifest: &Manifest,
    wanted: Wanted,
    taken: &Taken,
    paths: &Paths,
) -> Result<Placement> {
    let mut topology = manifest.spec.as_object().cloned();
    let topology = topology
        .as_mut()
        .context("the archive's spec is not a mapping")?;
    let mut notes = Vec::new();
    topology.insert("connection".to_owned(), json!(wanted.connection));
    if let Some(name) = &wanted.name {
        topology.insert("name".to_owned(), json!(name));
    }
    let name = topology.get("name").and_then(Value::as_str);
    let name = Name::new(name.unwrap_or_default())
        .context("the archive's name cannot be used; give another with `--name`")?;
    let folder = wanted
        .folder
        .unwrap_or_else(|| PathBuf::from(name.as_str()));
    let folder = std::path::absolute(folder)?;
    if wanted.connection != "lab" {
        move_network(topology, &taken.networks, &mut notes)?;
    }
    // Validated before a part of it is used.
    manifest.spec_of(topology, &folder)?;
    move_ports(topology, taken, &mut notes);
    let spec = manifest.spec_of(topology, &folder)?;
    Ok(Placement {
        home: paths.deployment(&name),
        spec,
        folder,
        notes,
        topology: std::mem::take(topology),
    })
}

/// The mappings in `topology` under `key`, with their names; what is not a mapping, validation names.
fn members<'a>(
    topology: &'a mut Mapping,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a mut Mapping)> {
    let members = topology.get_mut(key).and_then(Value::as_object_mut);
    members
        .into_iter()
        .flatten()
        .filter_map(|(name, member)| Some((name, member.as_object_mut()?)))
}

/// Takes another network where the archive's is in use, with each guest's place in it.
fn move_network(topology: &mut Mapping, taken: &[Ipv4Net], notes: &mut Vec<String>) -> Result<()> {
    let network = topology.get_mut("network").and_then(Value::as_object_mut);
    let cidr = network.and_then(|network| network.get_mut("cidr"));
    let Some((cidr, old)) = cidr.and_then(|cidr| {
        let old = cidr.as_str()?.parse::<Ipv4Net>().ok()?;
        Some((cidr, old))
    }) else {
        // The validation that follows names it.
        return Ok(());
    };
    let meets = |net: &Ipv4Net| {
        taken
            .iter()
            .any(|other| other.contains(net) || net.contains(other))
    };
    if !meets(&old) {
        return Ok(());
    }
    let mut others = (64..=255).filter_map(|third| {
        Ipv4Net::new(Ipv4Addr::new(10, third, 0, 0), old.prefix_len().max(16)).ok()
    });
    let new = others
        .find(|net| !meets(net))
        .with_context(|| format!("the network {old} is in use, and no other is free"))?;
    *cidr = json!(new.to_string());
    let (old_base, new_base) = (u32::from(old.network()), u32::from(new.network()));
    for (_, domain) in members(topology, "domains") {
        let address = domain.get("address").and_then(Value::as_str);
        let address = address.and_then(|text| text.parse::<Ipv4Addr>().ok());
        if let Some(address) = address.filter(|address| old.contains(address)) {
            let place = u32::from(address) - old_base;
            let moved = Ipv4Addr::from(new_base.wrapping_add(place));
            domain.insert("address".to_owned(), json!(moved));
        }
    }
    notes.push(format!(
        "the network {old} is in use here; the deployment gets {new}"
    ));
    Ok(())
}

/// Publishes on another port where something listens on the archive's.
fn move_ports(topology: &mut Mapping, taken: &Taken, notes: &mut Vec<String>) {
    for (name, domain) in members(topology, "domains") {
        let published = domain.get_mut("publish").and_then(Value::as_array_mut);
        for publish in published.into_iter().flatten() {
            let text = publish.as_str().unwrap_or_default();
            let Some((host, guest)) = text.rsplit_once(':') else {
                continue;
            };
            let Some(host) = host
                .parse::<SocketAddr>()
                .ok()
                .filter(|host| (taken.listening)(*host))
            else {
                continue;
            };
            if let Some(free) = free_port(host.ip()) {
                notes.push(format!("{host} is in use; `{name}` is published on {free}"));
                *publish = json!(format!("{free}:{guest}"));
            }
        }
    }
}

/// A port that nothing listens on. If something else takes it before `up` does, `up` reports that.
fn free_port(ip: IpAddr) -> Option<SocketAddr> {
    std::net::TcpListener::bind((ip, 0)).ok()?.local_addr().ok()
}

impl Placement {
    /// What reaches further than this host, or is shared with another: a person decides whether it is wanted.
    pub fn warnings(&self, manifest: &Manifest) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, domain) in &self.spec.domains {
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

    /// Refuses to touch an existing folder or deployment.
    pub fn refuse_taken(&self) -> Result<()> {
        // A link that leads nowhere is in the way, too.
        ensure!(
            fs::symlink_metadata(&self.folder).is_err(),
            "`{}` already exists; name another folder with `--into`",
            self.folder.display()
        );
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        // A file without a name: permissions alone do not say what a file system accepts.
        tempfile::tempfile_in(parent).with_context(|| {
            format!(
                "failed to find a writable folder `{}`; name another one with `--into`",
                parent.display()
            )
        })?;
        let home = self.home.path();
        let here = self
            .home
            .recorded_spec()
            .map_or(true, |spec| spec.is_some());
        let started = home.join("disks").exists() && !self.importing().exists();
        ensure!(
            !here && !started,
            "the deployment `{}` already exists; remove it with `pspd down --volumes`, or import under another `--name`",
            self.spec.name
        );
        Ok(())
    }

    /// Exists while an import is not complete.
    fn importing(&self) -> PathBuf {
        self.home.path().join("importing")
    }

    /// Unpacks and places all of the archive. Files get their names at the end, and after an error nothing is left.
    /// The caller holds the deployment's lock.
    pub fn place(&self, opened: Opened, cache: &Path) -> Result<()> {
        create_private(self.home.path())?;
        self.discard_unfinished()?;
        let placed = self.fill(opened, cache);
        if placed.is_err() {
            // The lock's file is in the folder, and is removed with it.
            self.home.remove()?;
        }
        placed
    }

    /// Removes all that [`Placement::place`] placed.
    pub fn remove(&self) -> Result<()> {
        folder::remove(&self.folder)?;
        self.home.remove()
    }

    /// Removes what a killed import had renamed into place.
    fn discard_unfinished(&self) -> Result<()> {
        if !self.importing().exists() {
            return Ok(());
        }
        for folder in [self.home.disks(), self.home.volumes(), self.home.keys()] {
            folder::remove(&folder)?;
        }
        Ok(())
    }

    fn fill(&self, opened: Opened, cache: &Path) -> Result<()> {
        let hidden = format!(".{}.importing", self.spec.name);
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        let (own, state) = (
            Staging::create(&parent.join(hidden))?,
            Staging::create(&self.importing())?,
        );
        let files = opened.manifest.files.clone();
        opened.read(|entry| {
            let name = entry.name.as_str();
            Ok(match entry.content {
                Content::Plain {} => None,
                Content::Image { .. } => Some(own.file(name)?),
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
        self.home.create()?;
        for entry in &files {
            self.take(entry, &state, cache)?;
        }
        for folder in [self.home.disks(), self.home.volumes()] {
            sync_parent(&folder.join("any"))?;
        }
        let mut text = own.file(TOPOLOGY)?;
        text.write_all(manifest::text(&self.topology)?.as_bytes())
            .and_then(|()| text.sync_all())
            .with_context(|| format!("failed to write `{TOPOLOGY}`"))?;
        own.keep(&self.folder)?;
        drop(state);
        Ok(())
    }

    /// Brings a file of the state's staging folder to its place.
    fn take(&self, entry: &Entry, state: &Staging, cache: &Path) -> Result<()> {
        let from = state.path(entry.name.as_str());
        let to = match &entry.content {
            Content::System { domain, .. } => {
                self.rebase(&from, domain, cache)?;
                self.home.disk(domain)
            }
            Content::Volume { domain, volume, .. } => {
                let (domain, volume) = (domain.clone(), volume.clone());
                let id = VolumeId { domain, volume };
                self.home.volumes().join(id.file())
            }
            Content::Secret { key } => return self.take_secret(key, &from),
            Content::Plain {} | Content::Image { .. } | Content::File { .. } => return Ok(()),
        };
        fs::rename(&from, &to)
            .with_context(|| format!("failed to move a file to `{}`", to.display()))
    }

    fn take_secret(&self, key: &Secret, from: &Path) -> Result<()> {
        let to = self.home.keys().join(key.path());
        let text =
            fs::read(from).with_context(|| format!("failed to read `{}`", from.display()))?;
        create_private(to.parent().unwrap_or(Path::new("/")))?;
        write_atomically(&to, &text, 0o600)
    }

    /// Points a system disk to its image where this host's cache has it, or will have it after `up`.
    fn rebase(&self, overlay: &Path, domain: &Name, cache: &Path) -> Result<()> {
        let image = &self.spec.images[&self.spec.domains[domain].image];
        let ImageSource::Path { sha256, .. } = &image.source else {
            bail!("the image `{}` is not a file", image.name);
        };
        let base = crate::image::place(cache, sha256);
        disk::rebase(overlay, &base)?;
        fs::File::open(overlay)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("failed to flush `{}`", overlay.display()))
    }
}
