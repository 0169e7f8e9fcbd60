//! The record of the files that each domain's disks were at its last start.
//!
//! A path says nothing about a file that a process has open: it may have been removed, or replaced from a backup. A backup that
//! was copied over the file shows by its stamp.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::spec::Name;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
}

/// A random value in a disk's file, which is new at each boot of its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(pub Uuid);

/// A disk's file as it was when its domain opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedFile {
    #[serde(flatten)]
    pub file: FileIdentity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

impl Home {
    /// Reads which files a domain's disks were at its last start, by serial. A damaged record is ignored.
    pub fn attached_record(&self, domain: &Name) -> anyhow::Result<BTreeMap<String, OpenedFile>> {
        let text = files::read_if_there(&self.attached(domain))?;
        let record = text.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(record.unwrap_or_default())
    }

    pub fn record_attached(
        &self,
        domain: &Name,
        disks: &BTreeMap<String, OpenedFile>,
    ) -> anyhow::Result<()> {
        files::create_private(&self.path().join(FOLDER))?;
        files::write_atomically(&self.attached(domain), &serde_json::to_vec(disks)?, 0o600)
    }

    fn attached(&self, domain: &Name) -> PathBuf {
        self.path().join(FOLDER).join(format!("{domain}.json"))
    }
}

const FOLDER: &str = "attached";
