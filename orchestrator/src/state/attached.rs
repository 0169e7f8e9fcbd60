//! The record of the files that each domain's disks were at its last start.
//!
//! A path says nothing about a file that a process has open: it may have been removed, or replaced from a backup.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::observed::Attached;
use pspd_model::spec::Name;
use serde::{Deserialize, Serialize};

use super::{Home, files};

/// A file, independent of its name: unique while something has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The file at a path; `None` if there is none.
    pub fn at(path: &Path) -> anyhow::Result<Option<FileIdentity>> {
        match fs::metadata(path) {
            Ok(file) => Ok(Some(FileIdentity {
                device: file.dev(),
                inode: file.ino(),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("failed to look for `{}`", path.display()))
            }
        }
    }

    /// What is at a path now, where this file was when it was opened. Without a record, any file is taken for it.
    pub fn compare(opened: Option<FileIdentity>, path: &Path) -> anyhow::Result<Attached> {
        Ok(match (FileIdentity::at(path)?, opened) {
            (None, _) => Attached::Missing,
            (Some(now), Some(opened)) if now != opened => Attached::Replaced,
            (Some(_), _) => Attached::Same,
        })
    }
}

impl Home {
    /// Reads which files a domain's disks were at its last start, by serial. A damaged record is ignored.
    pub fn attached_record(&self, domain: &Name) -> anyhow::Result<BTreeMap<String, FileIdentity>> {
        let text = files::read_if_there(&self.attached(domain))?;
        let record = text.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(record.unwrap_or_default())
    }

    pub fn record_attached(
        &self,
        domain: &Name,
        disks: &BTreeMap<String, FileIdentity>,
    ) -> anyhow::Result<()> {
        files::create_private(&self.path().join(FOLDER))?;
        files::write_atomically(&self.attached(domain), &serde_json::to_vec(disks)?, 0o600)
    }

    fn attached(&self, domain: &Name) -> PathBuf {
        self.path().join(FOLDER).join(format!("{domain}.json"))
    }
}

const FOLDER: &str = "attached";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_differs_from_one_that_replaced_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, "one").unwrap();
        // As a process has it.
        let _open = fs::File::open(&path).unwrap();
        let opened = FileIdentity::at(&path).unwrap();
        let now = || FileIdentity::compare(opened, &path).unwrap();
        assert_eq!(now(), Attached::Same);
        fs::remove_file(&path).unwrap();
        assert_eq!(now(), Attached::Missing);
        fs::write(&path, "two").unwrap();
        assert_eq!(now(), Attached::Replaced);
        let unknown = FileIdentity::compare(None, &path).unwrap();
        assert_eq!(unknown, Attached::Same);
    }
}
