//! What a file of an archive must be beside its digest: a disk of its size over its image, or a key that can be read.
//! `import`, `import --dry-run` and `export --verify` all check here, before anything of the archive has its place.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio_util::sync::CancellationToken;

use super::manifest::{Content, Entry, FileName, LONGEST_SECRET, Secret};
use crate::disk::qcow2::{Backing, Disk};
use crate::identity::{self, KeyFile};
use crate::tree;

/// Whether [`file`] reads a file of this kind.
pub(super) fn reads(content: &Content) -> bool {
    match content {
        Content::Plain {} | Content::File { .. } => false,
        Content::Image { .. }
        | Content::Folder {}
        | Content::System { .. }
        | Content::Volume { .. }
        | Content::Secret { .. } => true,
    }
}

/// Checks a file that has been unpacked.
pub(super) fn file(entry: &Entry, file: File, cancel: &CancellationToken) -> Result<()> {
    let checked = match &entry.content {
        Content::Plain {} | Content::File { .. } => Ok(()),
        Content::Image { virtual_size } | Content::Volume { virtual_size, .. } => {
            disk(entry, file, *virtual_size, None, cancel)
        }
        Content::System {
            image,
            virtual_size,
            ..
        } => disk(entry, file, *virtual_size, Some(image), cancel),
        Content::Folder {} => folder(file, cancel),
        Content::Secret { key } => secret(file, key),
    };
    checked.with_context(|| format!("`{}` is refused", entry.name))
}

/// A disk is what the manifest says: its format, its size, and the one file that it may be over.
fn disk(
    entry: &Entry,
    file: File,
    size: u64,
    over: Option<&FileName>,
    cancel: &CancellationToken,
) -> Result<()> {
    let disk = Disk::of(file, Path::new(entry.name.as_str()))?;
    let header = &disk.header;
    ensure!(
        header.size.0 == size,
        "it is a disk of {} bytes, but the manifest says {size}",
        header.size.0
    );
    let wanted = over.map(|image| Backing {
        path: image.as_str().into(),
        format: Some("qcow2".to_owned()),
    });
    ensure!(
        header.backing == wanted,
        "its backing file is {}, but the manifest says {}",
        shown(&header.backing),
        shown(&wanted)
    );
    disk.check(cancel)
}

fn shown(backing: &Option<Backing>) -> String {
    match backing {
        None => "none".to_owned(),
        Some(Backing { path, format }) => format!(
            "`{}` ({})",
            path.display().to_string().escape_debug(),
            format
                .as_deref()
                .unwrap_or("no stated format")
                .escape_debug()
        ),
    }
}

fn folder(mut file: File, cancel: &CancellationToken) -> Result<()> {
    file.rewind().context("failed to read it")?;
    tree::check(BufReader::new(file), cancel)
}

fn secret(mut file: File, key: &Secret) -> Result<()> {
    let mut text = String::new();
    file.rewind()
        .and_then(|()| file.take(LONGEST_SECRET).read_to_string(&mut text))
        .context("failed to read it as text")?;
    let kind = match key {
        Secret::Authority {} => KeyFile::Authority,
        Secret::Client {} | Secret::Service { .. } => KeyFile::Certificate,
        Secret::Ssh {} | Secret::Host { .. } => KeyFile::Ssh,
        Secret::Value { .. } => KeyFile::Secret,
    };
    identity::check(kind, &text)
}
