//! Snapshots of a whole deployment: what each one is made of, and which one the disks descend from.
//!
//! ```text
//! snapshots/NAME/DOMAIN.mem       written by libvirt
//! snapshots/NAME/snapshot.json    written last, removed first
//! snapshot-head                   the name of the snapshot that the disks descend from
//! snapshot-rewinding              exists while the disks and the memory of the snapshot that it names are put in place
//! ```
//! A folder without its record counts as none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pspd_model::observed::Deployed;
use pspd_model::spec::{Name, Size, Spec};
use serde::{Deserialize, Serialize};

use super::memory::MemoryImage;
use super::{Home, files, remove_if_there};
use crate::folder;

/// The version of the record's format.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    /// The snapshot before it; `None` if it is the first, or if that was removed.
    pub parent: Option<Name>,
    pub note: String,
    /// In seconds since 1970.
    pub taken: u64,
    pub spec: Spec,
    pub domains: BTreeMap<Name, SnapshotDomain>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotDomain {
    /// The files of its frozen layers, by serial.
    pub disks: BTreeMap<String, String>,
    /// What `DOMAIN.mem` is of; `None` where the snapshot has the disks only.
    pub memory: Option<MemoryImage>,
    /// Whether it ran, or was paused.
    pub runs: bool,
    pub deployed: Option<Deployed>,
}

impl Snapshot {
    pub fn new(spec: Spec, note: String, taken: u64) -> Snapshot {
        Snapshot {
            version: VERSION,
            parent: None,
            note,
            taken,
            spec,
            domains: BTreeMap::new(),
        }
    }
}

impl Home {
    /// All snapshots, by name.
    pub fn snapshots(&self) -> anyhow::Result<BTreeMap<Name, Snapshot>> {
        let mut snapshots = BTreeMap::new();
        for name in self.snapshot_names()? {
            snapshots.extend(self.snapshot(&name)?.map(|snapshot| (name, snapshot)));
        }
        Ok(snapshots)
    }

    /// The names of all snapshots, of which nothing is read.
    pub fn snapshot_names(&self) -> anyhow::Result<BTreeSet<Name>> {
        let folder = self.snapshots_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.with_context(|| format!("failed to list `{}`", folder.display()))?,
        };
        let names = entries.flatten().filter_map(|entry| {
            let name = Name::new(entry.file_name().to_str()?).ok()?;
            self.snapshot_record(&name).exists().then_some(name)
        });
        Ok(names.collect())
    }

    /// A snapshot; `None` if there is none of this name.
    pub fn snapshot(&self, name: &Name) -> anyhow::Result<Option<Snapshot>> {
        let path = self.snapshot_record(name);
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let damaged = || {
            format!(
                "the record `{}` of the snapshot `{name}` is damaged. Restore it from a backup, or remove that folder",
                path.display()
            )
        };
        let snapshot: Snapshot = serde_json::from_slice(&text).with_context(damaged)?;
        ensure!(
            snapshot.version == VERSION,
            "the snapshot `{name}` has the format {}; this pspd reads only {VERSION}",
            snapshot.version
        );
        Ok(Some(snapshot))
    }

    /// Makes the folder of a snapshot, without what a killed run left in it.
    pub fn prepare_snapshot(&self, name: &Name) -> anyhow::Result<()> {
        ensure!(
            !self.snapshot_record(name).exists(),
            "the snapshot `{name}` already exists"
        );
        folder::remove(&self.snapshot_folder(name))?;
        files::create_private(&self.snapshots_folder())?;
        files::create_private(&self.snapshot_folder(name))
    }

    /// From then on the snapshot exists.
    pub fn record_snapshot(&self, name: &Name, snapshot: &Snapshot) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(snapshot)?;
        files::write_atomically(&self.snapshot_record(name), &text, 0o600)
    }

    /// Removes a snapshot's record and its memory, but not its layers. Those after it follow the one before it.
    pub fn forget_snapshot(&self, name: &Name) -> anyhow::Result<()> {
        let mut snapshots = self.snapshots()?;
        let parent = snapshots.remove(name).and_then(|snapshot| snapshot.parent);
        for (child, mut snapshot) in snapshots {
            if snapshot.parent.as_ref() == Some(name) {
                snapshot.parent.clone_from(&parent);
                self.record_snapshot(&child, &snapshot)?;
            }
        }
        if self.head_snapshot()?.as_ref() == Some(name) {
            self.record_head_snapshot(parent.as_ref())?;
        }
        remove_if_there(&self.snapshot_record(name))?;
        folder::remove(&self.snapshot_folder(name))
    }

    /// The files of layers that snapshots keep.
    pub fn layers_of_snapshots(&self) -> anyhow::Result<BTreeSet<String>> {
        let snapshots = self.snapshots()?.into_values();
        let domains = snapshots.flat_map(|snapshot| snapshot.domains.into_values());
        Ok(domains
            .flat_map(|domain| domain.disks.into_values())
            .collect())
    }

    /// Records that a domain's layer is in another file by now.
    pub fn replace_layer(&self, domain: &Name, from: &str, to: &str) -> anyhow::Result<()> {
        for (name, mut snapshot) in self.snapshots()? {
            let disks = snapshot.domains.get_mut(domain).map(|of| &mut of.disks);
            let files = disks.into_iter().flat_map(|disks| disks.values_mut());
            let files: Vec<&mut String> = files.filter(|file| *file == from).collect();
            if files.is_empty() {
                continue;
            }
            for file in files {
                *file = to.to_owned();
            }
            self.record_snapshot(&name, &snapshot)?;
        }
        Ok(())
    }

    pub fn snapshot_memory(&self, snapshot: &Name, domain: &Name) -> PathBuf {
        self.snapshot_folder(snapshot).join(format!("{domain}.mem"))
    }

    /// The room that a snapshot alone takes on the host's disk: its memory, and its own layers.
    pub fn snapshot_size(&self, name: &Name, snapshot: &Snapshot) -> Size {
        let mut size = 0;
        for (domain, of) in &snapshot.domains {
            let disks = of.disks.iter();
            let layers = disks.map(|(serial, file)| self.layer(serial, file));
            let memory = of
                .memory
                .is_some()
                .then(|| self.snapshot_memory(name, domain));
            for file in layers.chain(memory) {
                // In units of 512 bytes on all file systems.
                size += fs::metadata(&file).map_or(0, |file| file.blocks() * 512);
            }
        }
        Size(size)
    }

    /// The snapshot that the disks descend from.
    pub fn head_snapshot(&self) -> anyhow::Result<Option<Name>> {
        read_name(&self.path().join("snapshot-head"))
    }

    pub fn record_head_snapshot(&self, name: Option<&Name>) -> anyhow::Result<()> {
        write_name(&self.path().join("snapshot-head"), name)
    }

    /// The snapshot that an interrupted run was putting in place.
    pub fn rewinding(&self) -> anyhow::Result<Option<Name>> {
        read_name(&self.path().join("snapshot-rewinding"))
    }

    pub fn record_rewinding(&self, name: Option<&Name>) -> anyhow::Result<()> {
        write_name(&self.path().join("snapshot-rewinding"), name)
    }

    fn snapshots_folder(&self) -> PathBuf {
        self.path().join("snapshots")
    }

    fn snapshot_folder(&self, name: &Name) -> PathBuf {
        self.snapshots_folder().join(name.as_str())
    }

    fn snapshot_record(&self, name: &Name) -> PathBuf {
        self.snapshot_folder(name).join("snapshot.json")
    }
}

fn read_name(path: &Path) -> anyhow::Result<Option<Name>> {
    let text = files::read_if_there(path)?;
    let text = text.and_then(|text| String::from_utf8(text).ok());
    Ok(text.and_then(|text| Name::new(&text).ok()))
}

fn write_name(path: &Path, name: Option<&Name>) -> anyhow::Result<()> {
    match name {
        Some(name) => files::write_atomically(path, name.as_str().as_bytes(), 0o600),
        None => remove_if_there(path),
    }
}

#[cfg(test)]
mod tests {
    use pspd_model::topology::{self, Found};

    use super::super::Paths;
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().to_owned());
        let paths = Paths::resolve(path.clone(), path).unwrap();
        let home = paths.deployment(&name("demo"));
        home.create().unwrap();
        (folder, home)
    }

    fn snapshot(parent: Option<&str>) -> Snapshot {
        let text = format!(
            "name: demo\nimages: {{debian: {{path: /image, sha256: {}}}}}\ndomains: {{web: {{image: debian}}}}\n",
            "0".repeat(64)
        );
        let spec = topology::parse(&text, Path::new("/"), &|_| Found::File).unwrap();
        let mut snapshot = Snapshot::new(spec, "a note".into(), 7);
        snapshot.parent = parent.map(name);
        snapshot
    }

    #[test]
    fn what_follows_a_removed_snapshot_follows_the_one_before_it() {
        let (_folder, home) = home();
        assert!(home.snapshots().unwrap().is_empty());
        for (one, parent) in [
            ("a", None),
            ("b", Some("a")),
            ("c", Some("b")),
            ("d", Some("b")),
        ] {
            home.prepare_snapshot(&name(one)).unwrap();
            home.record_snapshot(&name(one), &snapshot(parent)).unwrap();
        }
        home.record_head_snapshot(Some(&name("b"))).unwrap();
        home.forget_snapshot(&name("b")).unwrap();
        let parents: Vec<_> = home
            .snapshots()
            .unwrap()
            .into_iter()
            .map(|(one, snapshot)| (one, snapshot.parent))
            .collect();
        let a = Some(name("a"));
        assert_eq!(
            parents,
            [
                (name("a"), None),
                (name("c"), a.clone()),
                (name("d"), a.clone())
            ]
        );
        assert_eq!(home.head_snapshot().unwrap(), a);
        home.forget_snapshot(&name("a")).unwrap();
        assert_eq!(home.head_snapshot().unwrap(), None);
        assert_eq!(home.snapshot(&name("c")).unwrap(), Some(snapshot(None)));
    }

    #[test]
    fn snapshots_follow_a_layer_to_another_file() {
        let (_folder, home) = home();
        let of = |files: [&str; 2]| {
            let disks = ["system", "data"].map(str::to_owned).into_iter();
            SnapshotDomain {
                disks: disks.zip(files.map(str::to_owned)).collect(),
                memory: None,
                runs: true,
                deployed: None,
            }
        };
        let files = |one: &str| home.snapshot(&name(one)).unwrap().unwrap().domains;
        for (one, system) in [("a", "web.system.1"), ("b", "web.system.2")] {
            let mut snapshot = snapshot(None);
            for domain in ["web", "other"] {
                snapshot
                    .domains
                    .insert(name(domain), of([system, "web.data.2"]));
            }
            home.prepare_snapshot(&name(one)).unwrap();
            home.record_snapshot(&name(one), &snapshot).unwrap();
        }
        home.replace_layer(&name("web"), "web.system.2", "web.system.1")
            .unwrap();
        let unchanged = of(["web.system.2", "web.data.2"]);
        let changed = of(["web.system.1", "web.data.2"]);
        assert_eq!(
            files("b"),
            BTreeMap::from([(name("web"), changed.clone()), (name("other"), unchanged)])
        );
        assert_eq!(
            files("a"),
            BTreeMap::from([(name("web"), changed.clone()), (name("other"), changed)])
        );
    }

    #[test]
    fn the_remains_of_a_killed_run_are_not_a_snapshot() {
        let (_folder, home) = home();
        home.prepare_snapshot(&name("a")).unwrap();
        fs::write(home.snapshot_memory(&name("a"), &name("web")), "half").unwrap();
        assert_eq!(home.snapshot(&name("a")).unwrap(), None);
        home.prepare_snapshot(&name("a")).unwrap();
        assert!(!home.snapshot_memory(&name("a"), &name("web")).exists());
        home.record_snapshot(&name("a"), &snapshot(None)).unwrap();
        let error = home.prepare_snapshot(&name("a")).unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
    }

    #[test]
    fn a_damaged_record_is_named() {
        let (_folder, home) = home();
        home.prepare_snapshot(&name("a")).unwrap();
        for (text, problem) in [("{", "is damaged"), ("", "is damaged")] {
            fs::write(home.snapshot_record(&name("a")), text).unwrap();
            let error = home.snapshots().unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
