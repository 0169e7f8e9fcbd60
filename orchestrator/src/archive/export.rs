//! Packs contents into one file, which appears complete or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use pspd_model::hint::Hinted;
use pspd_model::plan::Existing;
use pspd_model::spec::{Digest, Size};
use tokio_util::sync::CancellationToken;

use super::compress::{Encoder, Format, Window};
use super::contents::Contents;
use super::entries::{write_end, write_header, write_padding};
use super::hashing::{Found, Hashing};
use super::is_plausible;
use super::manifest::{Content, Entry, MANIFEST, MANIFEST_DIGEST, Manifest};
use super::temp_file::TempFile;
use crate::event::Scope;
use crate::progress::Progress;

/// What a cancelled export was doing.
const CANCELLED: &str = "writing the archive";

/// What was packed.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// Of all files, in bytes.
    pub content: u64,
    /// Of the archive, in bytes.
    pub archive: u64,
}

/// Where an archive goes.
pub struct Target {
    pub path: PathBuf,
    pub format: Format,
    pub existing: Existing,
}

impl Target {
    /// Refuses a name without a format, one in a missing folder, and an existing file unless it is to be replaced.
    pub fn new(path: &Path, existing: Existing) -> Result<Target> {
        let format = Format::of(path)?;
        let folder = std::path::absolute(path)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        ensure!(
            folder.is_dir(),
            Hinted::new(
                format!(
                    "the folder `{}` of `{}` does not exist",
                    folder.display(),
                    path.display()
                ),
                "Create it first",
            )
        );
        ensure!(
            !path.is_dir(),
            Hinted::new(format!("`{}` is a folder", path.display()), "Name a file")
        );
        ensure!(
            existing == Existing::Replace || std::fs::symlink_metadata(path).is_err(),
            Hinted::new(
                format!("`{}` already exists", path.display()),
                "Pass --force to replace it",
            )
        );
        Ok(Target {
            path: path.to_owned(),
            format,
            existing,
        })
    }
}

/// Reads everything twice: first for the manifest, which comes first in the archive, so that it can be checked before
/// anything else is unpacked.
pub fn pack(
    contents: &Contents,
    target: &Target,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<Packed> {
    scope.stage("digesting");
    let manifest = digest(contents, scope, cancel)?;
    manifest
        .check()
        .context("no `pspd import` would accept the archive")?;
    scope.stage("compressing");
    let writing = || format!("failed to write `{}`", target.path.display());
    let write = |window| -> Result<(TempFile, u64)> {
        let file = TempFile::create(&target.path)?;
        let mut encoder = Encoder::new(target.format, window, file.handle()?)?;
        write_tar(contents, &manifest, &mut encoder, scope, cancel).with_context(writing)?;
        let packed = encoder.finish().and_then(|file| file.metadata());
        Ok((file, packed.with_context(writing)?.len()))
    };
    let (mut file, mut packed) = write(Window::Long)?;
    // That an archive is small is known at its end.
    if target.format == Format::Zst && Window::of(packed) == Window::Short {
        // Both may have the same temporary name.
        drop(file);
        (file, packed) = write(Window::Short)?;
    }
    ensure!(
        is_plausible(packed, manifest.total()),
        "the disks compressed too well: import refuses an archive that unpacks from {} to {}. Export to a .tar file",
        Size(packed),
        Size(manifest.total())
    );
    let archive = file.keep(&target.path, target.existing)?;
    Ok(Packed {
        content: manifest.total(),
        archive,
    })
}

fn digest(contents: &Contents, scope: &Scope, cancel: &CancellationToken) -> Result<Manifest> {
    let mut files = Vec::new();
    let progress = Progress::new(None, CANCELLED, scope, cancel);
    for item in &contents.items {
        let Found { sha256, size } = match &item.found {
            Some(found) => found.clone(),
            None => {
                let mut to = progress.watch(Hashing::default());
                item.source.write(&mut to, cancel)?;
                to.into_inner().end()
            }
        };
        files.push(Entry {
            name: item.name.clone(),
            size,
            sha256,
            content: item.content.clone(),
        });
    }
    Ok(Manifest {
        format: Manifest::format_of(&contents.spec, &files),
        made_by: format!("pspd {}", env!("CARGO_PKG_VERSION")),
        spec: contents.spec.clone(),
        files,
    })
}

fn write_tar(
    contents: &Contents,
    manifest: &Manifest,
    to: &mut Encoder,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<()> {
    let modified = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let text = serde_json::to_vec_pretty(manifest)?;
    let sum = format!("{}  {MANIFEST}\n", Digest::of(&text));
    for (name, text) in [(MANIFEST_DIGEST, sum.as_bytes()), (MANIFEST, &text)] {
        write_header(to, name, text.len() as u64, modified)?;
        to.write_all(text)?;
        write_padding(to, text.len() as u64)?;
    }
    let progress = Progress::new(Some(manifest.total()), CANCELLED, scope, cancel);
    let mut before = &Content::Plain {};
    for (item, entry) in contents.items.iter().zip(&manifest.files) {
        // A domain's executables are on its disk, too; within a block, repeated content costs nothing.
        let is_file =
            |content: &Content| matches!(content, Content::File { .. } | Content::Folder {});
        if is_file(&item.content) && !is_file(before) {
            to.begin_block()?;
        }
        before = &item.content;
        write_header(to, entry.name.as_str(), entry.size, modified)?;
        let mut checked = progress.watch(Tee::new(to));
        item.source.write(&mut checked, cancel)?;
        let found = checked.into_inner().hashing.end();
        ensure!(
            found.is_of(entry),
            "`{}` changed while it was being read",
            entry.name
        );
        write_padding(to, entry.size)?;
    }
    Ok(write_end(to)?)
}

/// Writes to the encoder and digests.
struct Tee<'a> {
    to: &'a mut Encoder,
    hashing: Hashing,
}

impl<'a> Tee<'a> {
    fn new(to: &'a mut Encoder) -> Tee<'a> {
        Tee {
            to,
            hashing: Hashing::default(),
        }
    }
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hashing.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
