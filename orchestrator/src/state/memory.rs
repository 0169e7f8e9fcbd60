//! The memory of saved domains: a file each, and a record of what it is of.
//!
//! ```text
//! memory/DOMAIN.mem    written by libvirt
//! memory/DOMAIN.json   written after it, removed before anything makes the memory useless
//! ```
//! Memory without its record counts as none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::observed::{MemoryCondition, SavedMemory};
use pspd_model::spec::{Digest, Name, Range, Size};
use serde::{Deserialize, Serialize};

use super::attached::FileIdentity;
use super::{Home, files, remove_if_there};
use crate::digest;

/// What a file of memory is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryImage {
    /// The digest of the domain's definition.
    pub definition: Digest,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// QEMU's version, as it prints it.
    pub hypervisor: String,
    /// The digest of the file.
    pub digest: Digest,
}

/// Saved memory, and the disks that it fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    #[serde(flatten)]
    pub image: MemoryImage,
    /// By the names of the disks; a link is followed.
    pub disks: BTreeMap<PathBuf, FileVersion>,
}

/// A file with the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    file: FileIdentity,
    /// Since 1970, in nanoseconds.
    modified: i128,
}

impl FileVersion {
    /// The file at a path; `None` if there is none.
    pub fn at(path: &Path) -> anyhow::Result<Option<FileVersion>> {
        let Some(file) = FileIdentity::at(path)? else {
            return Ok(None);
        };
        let found = fs::metadata(path)
            .with_context(|| format!("failed to look for `{}`", path.display()))?;
        let modified = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        Ok(Some(FileVersion { file, modified }))
    }
}

impl Home {
    pub fn memory_file(&self, domain: &Name) -> PathBuf {
        self.memory().join(format!("{domain}.mem"))
    }

    /// Makes room for a domain's memory: creates the folder, and removes what is there.
    pub fn prepare_memory(&self, domain: &Name) -> anyhow::Result<()> {
        files::create_private(&self.memory())?;
        self.forget_memory(domain)
    }

    pub fn record_memory(&self, domain: &Name, record: &MemoryRecord) -> anyhow::Result<()> {
        let path = self.memory_record_file(domain);
        files::write_atomically(&path, &serde_json::to_vec_pretty(record)?, 0o600)
    }

    /// Removes a domain's saved memory.
    pub fn forget_memory(&self, domain: &Name) -> anyhow::Result<()> {
        self.disown_memory(domain)?;
        remove_if_there(&self.memory_file(domain))
    }

    /// Removes the record of a domain's memory, which is not restored again.
    pub fn disown_memory(&self, domain: &Name) -> anyhow::Result<()> {
        remove_if_there(&self.memory_record_file(domain))
    }

    /// Reads what a domain's saved memory is of; it may not be usable. `None` where there is none.
    pub fn memory_record(&self, domain: &Name) -> anyhow::Result<Option<MemoryRecord>> {
        let text = files::read_if_there(&self.memory_record_file(domain))?;
        // If the record is damaged, it is not known what the memory belongs to.
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Whether a domain's memory is saved; it may not be usable.
    pub fn has_memory(&self, domain: &Name) -> bool {
        self.memory_record_file(domain).exists()
    }

    /// The domains that have saved memory.
    pub fn domains_with_memory(&self) -> anyhow::Result<Vec<Name>> {
        let folder = self.memory();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("failed to list `{}`", folder.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "json")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
                && let Ok(name) = Name::new(name)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// A domain's saved memory, checked against what is here now. `hypervisor` is QEMU's version. Reads the whole file.
    pub fn saved_memory(
        &self,
        domain: &Name,
        hypervisor: &str,
    ) -> anyhow::Result<Option<SavedMemory>> {
        let Some(MemoryRecord { image, disks }) = self.memory_record(domain)? else {
            return Ok(None);
        };
        let condition = if !same(&disks)? {
            MemoryCondition::OtherDisks
        } else if image.hypervisor != hypervisor {
            MemoryCondition::OtherHypervisor
        } else if !digest::is_of_file(&image.digest, &self.memory_file(domain)) {
            MemoryCondition::Damaged
        } else {
            MemoryCondition::Usable
        };
        Ok(Some(SavedMemory {
            definition: image.definition,
            memory: image.memory,
            vcpus: image.vcpus,
            condition,
        }))
    }

    fn memory(&self) -> PathBuf {
        self.path().join("memory")
    }

    fn memory_record_file(&self, domain: &Name) -> PathBuf {
        self.memory().join(format!("{domain}.json"))
    }
}

fn same(disks: &BTreeMap<PathBuf, FileVersion>) -> anyhow::Result<bool> {
    for (path, version) in disks {
        if FileVersion::at(path)?.as_ref() != Some(version) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Paths;

    fn fixed<T: Copy>(value: T) -> Range<T> {
        Range {
            current: value,
            maximum: value,
        }
    }

    #[test]
    fn saved_memory_is_usable_while_it_and_its_disks_are_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().to_owned());
        let paths = Paths::resolve(path.clone(), path).unwrap();
        let name = Name::new("web").unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let disk = home.disk(&name);
        let save = || {
            fs::write(&disk, "disk").unwrap();
            home.prepare_memory(&name).unwrap();
            fs::write(home.memory_file(&name), "memory").unwrap();
            let record = MemoryRecord {
                image: MemoryImage {
                    definition: Digest::of(b"definition"),
                    memory: fixed(Size::mib(512)),
                    vcpus: fixed(1),
                    hypervisor: "QEMU 10".into(),
                    digest: Digest::of(b"memory"),
                },
                disks: BTreeMap::from([(disk.clone(), FileVersion::at(&disk).unwrap().unwrap())]),
            };
            home.record_memory(&name, &record).unwrap();
        };
        let condition = |hypervisor: &str| {
            let saved = home.saved_memory(&name, hypervisor).unwrap();
            saved.map(|saved| saved.condition)
        };
        save();
        assert_eq!(
            home.domains_with_memory().unwrap(),
            std::slice::from_ref(&name)
        );
        assert_eq!(condition("QEMU 10"), Some(MemoryCondition::Usable));
        assert_eq!(condition("QEMU 11"), Some(MemoryCondition::OtherHypervisor));
        for damaged in ["", "mEmory", "memory and more"] {
            fs::write(home.memory_file(&name), damaged).unwrap();
            assert_eq!(condition("QEMU 10"), Some(MemoryCondition::Damaged));
        }
        fs::remove_file(home.memory_file(&name)).unwrap();
        assert_eq!(condition("QEMU 10"), Some(MemoryCondition::Damaged));
        save();
        fs::File::open(&disk)
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(condition("QEMU 10"), Some(MemoryCondition::OtherDisks));
        save();
        fs::remove_file(&disk).unwrap();
        assert_eq!(condition("QEMU 10"), Some(MemoryCondition::OtherDisks));
        save();
        fs::write(home.memory_record_file(&name), "{").unwrap();
        assert_eq!(condition("QEMU 10"), None);
        save();
        home.forget_memory(&name).unwrap();
        assert_eq!(condition("QEMU 10"), None);
        assert!(home.domains_with_memory().unwrap().is_empty());
    }
}
