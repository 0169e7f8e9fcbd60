//! One file of an archive, and where its bytes come from.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::blank::Blanks;
use super::hashing::Found;
use super::manifest::{Content, FileName};
use crate::disk::qcow2::Disk;
use crate::tree;

/// How much of a file is read at once, in bytes.
const PART: usize = 1 << 20;

/// A file that is to be packed.
pub struct Item {
    pub name: FileName,
    pub content: Content,
    pub source: Source,
    /// What it was when its name was made of it.
    pub found: Option<Found>,
}

/// Where a file's bytes come from.
pub enum Source {
    Text(String),
    /// A file of this host, unchanged.
    File(PathBuf),
    /// A directory of this host, as a tar.
    Folder(PathBuf),
    /// A disk without its gaps, over a file in the same folder.
    Disk {
        disk: Box<Disk>,
        over: Option<FileName>,
        /// What is left out of it.
        blanks: Option<Arc<Blanks>>,
    },
}

impl Source {
    /// Writes the file's bytes, which are the same each time while the host's files do not change.
    pub fn write(&self, to: &mut dyn Write, cancel: &CancellationToken) -> Result<()> {
        match self {
            Source::Text(text) => Ok(to.write_all(text.as_bytes())?),
            Source::File(path) => {
                let file = File::open(path)
                    .with_context(|| format!("failed to open `{}`", path.display()))?;
                io::copy(&mut BufReader::with_capacity(PART, file), to)
                    .with_context(|| format!("failed to copy `{}`", path.display()))?;
                Ok(())
            }
            Source::Folder(path) => tree::write_all(path, to, cancel),
            Source::Disk { disk, over, blanks } => {
                let over = over.as_ref().map(FileName::as_str);
                disk.dense(over, cancel)?.write(to, &|cluster| {
                    if let Some(blanks) = blanks {
                        blanks.apply(cluster);
                    }
                })
            }
        }
    }
}
