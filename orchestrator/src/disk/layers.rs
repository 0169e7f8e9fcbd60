//! The layers of disks, which snapshots make: files over each other, of which a domain writes only the topmost.
//!
//! ```text
//! web.qcow2 -> layers/web.system.3.qcow2    the head, which the domain writes
//!              layers/web.system.2.qcow2    frozen: what a snapshot keeps
//!              layers/web.system.1.qcow2    frozen
//!              the image
//! ```
//! A disk that was never in a snapshot is one file. Layers are never renamed, because those over them name them. Data is
//! written to a layer only after the disk's link leads to it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pspd_model::spec::{DomainSpec, Name, SYSTEM_DISK, VolumeId};
use tokio_util::sync::CancellationToken;

use super::qcow2::{Header, stamp};
use super::{absorb, create_overlay, is_overlay};
use crate::state::{FileIdentity, Home, LAYERS, create_private, remove_if_there};

const EXTENSION: &str = "qcow2";

/// A disk that a domain writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayeredDisk {
    pub serial: String,
    /// The name of the disk: a link to its head, or the only file that it is.
    pub path: PathBuf,
    folder: PathBuf,
    /// What the names of its layers begin with, such as `web.system.`.
    prefix: String,
}

impl LayeredDisk {
    /// A domain's disk of a serial number.
    pub fn new(home: &Home, domain: &Name, serial: &str) -> LayeredDisk {
        let volume = Name::new(serial)
            .ok()
            .filter(|_| serial != SYSTEM_DISK)
            .map(|volume| VolumeId {
                domain: domain.clone(),
                volume,
            });
        let path = match volume {
            Some(id) => home.volumes().join(id.file()),
            None => home.disk(domain),
        };
        LayeredDisk {
            serial: serial.to_owned(),
            folder: path.with_file_name(LAYERS),
            path,
            prefix: format!("{domain}.{serial}."),
        }
    }

    /// All disks that a domain writes, whether they exist or not.
    pub fn all(home: &Home, domain: &DomainSpec) -> Vec<LayeredDisk> {
        let disks = domain.disks();
        disks
            .map(|serial| LayeredDisk::new(home, &domain.name, serial))
            .collect()
    }

    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    /// Makes an empty layer over the head, which is not the head yet. A disk that is one file becomes a layer, too.
    pub fn add(&self) -> Result<PathBuf> {
        create_private(&self.folder)?;
        let head = head(&self.path)?;
        if head != self.path {
            return self.add_over(&head);
        }
        // A second name: a process that has the first one open keeps it.
        let layer = self.next()?;
        fs::hard_link(&self.path, &layer)
            .with_context(|| format!("failed to link `{}`", self.path.display()))?;
        self.add_over(&layer)
    }

    /// Makes an empty layer over a layer.
    pub fn add_over(&self, layer: &Path) -> Result<PathBuf> {
        let path = self.next()?;
        create_overlay(layer, &path, Header::open(layer)?.size)?;
        // A running domain opens it without a boot.
        stamp::renew(&path)?;
        Ok(path)
    }

    /// The layer that was made last.
    pub fn newest(&self) -> Result<PathBuf> {
        let number = self.numbers()?.into_iter().next_back();
        number
            .map(|number| self.layer(number))
            .with_context(|| format!("`{}` has no layers", self.path.display()))
    }

    /// Makes a layer the head.
    pub fn switch(&self, layer: &Path) -> Result<()> {
        let context = || {
            format!(
                "failed to make `{}` the head of `{}`",
                layer.display(),
                self.path.display()
            )
        };
        let name = layer.file_name().unwrap_or_default();
        let target = Path::new(LAYERS).join(name);
        let link = self.path.with_extension("link");
        remove_if_there(&link)?;
        symlink(target, &link).with_context(context)?;
        fs::rename(&link, &self.path).with_context(context)
    }

    /// Whether its link is one layer behind what a process writes: a snapshot was interrupted in between.
    pub fn is_behind(&self, writes: &Path) -> Result<bool> {
        if !is_layer(writes) || is_overlay(writes) || !writes.exists() {
            return Ok(false);
        }
        let head = head(&self.path)?;
        Ok(head != writes
            && match below(writes)? {
                // The first snapshot gave the disk a second name.
                Some(below) => FileIdentity::at(&below)? == FileIdentity::at(&head)?,
                None => false,
            })
    }

    /// The path of a layer by the name of its file.
    pub fn named(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn next(&self) -> Result<PathBuf> {
        let last = self.numbers()?.into_iter().next_back();
        Ok(self.layer(last.map_or(1, |number| number + 1)))
    }

    fn layer(&self, number: u64) -> PathBuf {
        self.folder
            .join(format!("{}{number}.{EXTENSION}", self.prefix))
    }

    fn numbers(&self) -> Result<BTreeSet<u64>> {
        let files = files(&self.folder)?;
        let number = |path: PathBuf| {
            let stem = path.file_stem()?.to_str()?.strip_prefix(&self.prefix)?;
            stem.parse().ok()
        };
        Ok(files.into_iter().filter_map(number).collect())
    }
}

/// The file that a disk's name leads to.
pub fn head(disk: &Path) -> Result<PathBuf> {
    match fs::read_link(disk) {
        Ok(target) => {
            let folder = disk.parent().unwrap_or(Path::new("/"));
            let layer = folder.join(target);
            // As overlays name it.
            layer
                .canonicalize()
                .with_context(|| format!("the layer `{}` is missing", layer.display()))
        }
        // A file, or nothing.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
            Ok(disk.to_owned())
        }
        Err(error) => Err(error).with_context(|| format!("failed to read `{}`", disk.display())),
    }
}

/// Whether a file is a layer.
pub fn is_layer(path: &Path) -> bool {
    path.parent().and_then(Path::file_name) == Some(OsStr::new(LAYERS))
}

/// The file that a layer is over.
pub fn below(layer: &Path) -> Result<Option<PathBuf>> {
    Ok(Header::open(layer)?.backing.map(|backing| backing.path))
}

/// What a disk is made of, from the top: layers, and the image that they are over.
pub fn chain(disk: &Path) -> Result<Vec<PathBuf>> {
    let mut chain = vec![head(disk)?];
    while let Some(below) = below(&chain[chain.len() - 1])? {
        let is_image = !is_layer(&below) && !is_overlay(&chain[chain.len() - 1]);
        chain.push(below);
        if is_image {
            break;
        }
    }
    Ok(chain)
}

/// Whether a disk is more than one file over its image.
pub fn has_layers(disk: &Path) -> Result<bool> {
    Ok(chain(disk)?.iter().skip(1).any(|path| is_layer(path)))
}

/// Writes a copy of a disk without its layers: one file over its image, or over nothing. A domain may have the disk open,
/// and must not write it.
pub fn collapse(disk: &Path, to: &Path, cancel: &CancellationToken) -> Result<()> {
    let chain = chain(disk)?;
    create_overlay(&chain[0], to, Header::open(&chain[0])?.size)?;
    absorb(
        to,
        chain
            .last()
            .filter(|end| !is_layer(end))
            .map(PathBuf::as_path),
        cancel,
    )
}

/// A layer that no snapshot keeps, between two others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    pub layer: PathBuf,
    /// The only layer over it.
    pub above: PathBuf,
    pub below: Option<PathBuf>,
}

/// Removes the layers of a domain that neither its disks nor snapshots need. `kept` are the file names of snapshots.
pub fn remove_unused(home: &Home, domain: &Name, kept: &BTreeSet<String>) -> Result<()> {
    let mut needed = BTreeSet::new();
    let mut tops = heads(home, domain)?;
    for folder in home.layer_folders() {
        tops.extend(
            kept.iter()
                .map(|file| folder.join(file))
                .filter(|path| path.exists()),
        );
    }
    for disk in tops {
        for file in chain(&disk)? {
            needed.extend(FileIdentity::at(&file)?);
        }
    }
    for layer in of_domain(home, domain)? {
        if FileIdentity::at(&layer)?.is_some_and(|file| !needed.contains(&file)) {
            remove_if_there(&layer)?;
        }
    }
    Ok(())
}

/// The layers of a domain that can be merged into the one over them. `kept` are the file names of snapshots.
pub fn mergeable(home: &Home, domain: &Name, kept: &BTreeSet<String>) -> Result<Vec<Between>> {
    let mut heads_of = BTreeSet::new();
    for disk in heads(home, domain)? {
        heads_of.insert(head(&disk)?);
    }
    let mut found = Vec::new();
    for layer in of_domain(home, domain)? {
        let name = layer.file_name().unwrap_or_default().to_string_lossy();
        if kept.contains(name.as_ref()) || heads_of.contains(&layer) {
            continue;
        }
        if let [above] = &over(home, domain, &layer)?[..] {
            found.push(Between {
                below: below(&layer)?,
                above: above.clone(),
                layer,
            });
        }
    }
    Ok(found)
}

/// The layers of a domain that are directly over a layer.
pub fn over(home: &Home, domain: &Name, layer: &Path) -> Result<Vec<PathBuf>> {
    let mut over = Vec::new();
    for above in of_domain(home, domain)? {
        if below(&above)?.as_deref() == Some(layer) {
            over.push(above);
        }
    }
    Ok(over)
}

/// The names of a domain's disks that exist.
fn heads(home: &Home, domain: &Name) -> Result<Vec<PathBuf>> {
    let mut disks = Vec::from([home.disk(domain)]);
    for path in files(&home.volumes())? {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if VolumeId::of_file(&file).is_some_and(|id| id.domain == *domain) {
            disks.push(path);
        }
    }
    disks.retain(|path| fs::symlink_metadata(path).is_ok());
    Ok(disks)
}

fn of_domain(home: &Home, domain: &Name) -> Result<Vec<PathBuf>> {
    let prefix = format!("{domain}.");
    let [system, volumes] = home.layer_folders().map(|folder| files(&folder));
    let mut layers = system?;
    layers.extend(volumes?);
    layers.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && !is_overlay(path)
    });
    // As overlays name them.
    layers
        .into_iter()
        .map(|path| {
            path.canonicalize()
                .with_context(|| format!("failed to find `{}`", path.display()))
        })
        .collect()
}

/// The disks in a folder, by name; none where there is no folder.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to list `{}`", folder.display()))?,
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension() == Some(OsStr::new(EXTENSION)));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use pspd_model::spec::Size;

    use super::*;
    use crate::disk;
    use crate::state::Paths;

    /// A disk of one file over an image, in a deployment.
    fn deployment(folder: &Path) -> (Home, Name, LayeredDisk) {
        let folder = folder.canonicalize().unwrap();
        let paths = Paths::resolve(Some(folder.clone()), Some(folder.clone())).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let image = folder.join("image");
        disk::create(&image, Size::mib(8)).unwrap();
        let web = Name::new("web").unwrap();
        let system = LayeredDisk::new(&home, &web, SYSTEM_DISK);
        disk::create_overlay(&image, &system.path, Size::mib(16)).unwrap();
        (home, web, system)
    }

    fn names(chain: &[PathBuf]) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        chain.iter().map(name).collect()
    }

    fn freeze(disk: &LayeredDisk) -> String {
        let layer = disk.add().unwrap();
        assert_eq!(disk.newest().unwrap(), layer);
        let frozen = below(&layer).unwrap().unwrap();
        disk.switch(&layer).unwrap();
        names(&[frozen]).remove(0)
    }

    #[test]
    fn each_snapshot_adds_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let (_, _, system) = deployment(folder.path());
        let opened = FileIdentity::at(&system.path).unwrap();
        assert_eq!(freeze(&system), "web.system.1.qcow2");
        assert_eq!(freeze(&system), "web.system.2.qcow2");
        let chain = chain(&system.path).unwrap();
        let expected = [
            "web.system.3.qcow2",
            "web.system.2.qcow2",
            "web.system.1.qcow2",
            "image",
        ];
        assert_eq!(names(&chain), expected);
        assert_eq!(FileIdentity::at(&chain[2]).unwrap(), opened);
        assert_eq!(Header::open(&system.path).unwrap().size, Size::mib(16));
    }

    #[test]
    fn what_a_killed_snapshot_left_is_removed_and_no_disk_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (home, web, system) = deployment(folder.path());
        system.add().unwrap();
        remove_unused(&home, &web, &BTreeSet::new()).unwrap();
        // The first layer is the disk itself by another name.
        assert_eq!(
            names(&files(&system.folder).unwrap()),
            ["web.system.1.qcow2"]
        );
        let kept = BTreeSet::from([freeze(&system)]);
        remove_unused(&home, &web, &kept).unwrap();
        assert_eq!(chain(&system.path).unwrap().len(), 3);
    }

    #[test]
    fn a_layer_is_merged_where_no_snapshot_keeps_it_and_one_layer_is_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let (home, web, system) = deployment(folder.path());
        let (one, two) = (freeze(&system), freeze(&system));
        let kept = |files: &[&String]| files.iter().map(|file| (*file).clone()).collect();
        let mergeable = |files: &[&String]| {
            let found = mergeable(&home, &web, &kept(files)).unwrap();
            let layers = found.into_iter().map(|between| between.layer);
            names(&layers.collect::<Vec<_>>())
        };
        assert_eq!(mergeable(&[&one, &two]), [""; 0]);
        assert_eq!(mergeable(&[&two]), [one.as_str()]);
        // A branch: two layers are over the first one.
        let branch = system.add_over(&system.named(&one)).unwrap();
        system.switch(&branch).unwrap();
        assert_eq!(mergeable(&[&two]), [""; 0]);
        assert_eq!(mergeable(&[&one]), [two.as_str()]);
        remove_unused(&home, &web, &kept(&[&one])).unwrap();
        assert_eq!(
            names(&chain(&system.path).unwrap()),
            ["web.system.4.qcow2", "web.system.1.qcow2", "image"]
        );
        assert_eq!(files(&system.folder).unwrap().len(), 2);
    }

    #[test]
    fn a_disk_is_copied_without_its_layers() {
        let folder = tempfile::tempdir().unwrap();
        let (home, web, system) = deployment(folder.path());
        let write = |text: &str, at: u64| {
            let head = head(&system.path).unwrap();
            let command = format!("write -P {} {at}M 1M", text.as_bytes()[0]);
            let written = std::process::Command::new("qemu-io")
                .args(["-f", "qcow2", "-c", &command])
                .arg(head)
                .output();
            assert!(written.unwrap().status.success());
        };
        write("1", 1);
        freeze(&system);
        write("2", 2);
        freeze(&system);
        write("3", 10);
        let (copy, whole) = (folder.path().join("copy"), folder.path().join("whole"));
        let cancel = CancellationToken::new();
        collapse(&system.path, &copy, &cancel).unwrap();
        let image = folder.path().canonicalize().unwrap().join("image");
        assert_eq!(chain(&copy).unwrap(), [copy.clone(), image]);
        assert_same(&system.path, &copy);
        let data = LayeredDisk::new(&home, &web, "data");
        disk::create(&data.path, Size::mib(4)).unwrap();
        freeze(&data);
        collapse(&data.path, &whole, &cancel).unwrap();
        assert_eq!(chain(&whole).unwrap(), [whole]);
    }

    fn assert_same(one: &Path, other: &Path) {
        let compared = std::process::Command::new("qemu-img")
            .args(["compare", "-f", "qcow2", "-F", "qcow2"])
            .args([one, other])
            .output();
        assert!(compared.unwrap().status.success());
    }

    #[test]
    fn the_disks_of_another_domain_are_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let (home, _, system) = deployment(folder.path());
        freeze(&system);
        remove_unused(&home, &Name::new("we").unwrap(), &BTreeSet::new()).unwrap();
        assert_eq!(files(&system.folder).unwrap().len(), 2);
    }
}
