//! Writes a tree, or what makes it of another, as a tar.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Digest;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::{Entry, Index, Kind};
use crate::cancelled::Cancelled;

/// What a guest needs to make a tree of one that it has, or of nothing.
///
/// ```text
/// removed      paths that are removed first, each followed by a NUL
/// index        the index of the new tree
/// files/PATH   what is added
/// ```
pub struct Pack<'a> {
    pub folder: &'a Path,
    pub index: &'a Index,
    pub base: Option<&'a Index>,
}

impl Pack<'_> {
    /// Writes the tar and returns its digest. A file that is not as the index says is an error.
    pub fn write(&self, to: &mut dyn Write, cancel: &CancellationToken) -> Result<Digest> {
        let difference = self.index.difference(self.base);
        let mut tar = builder(Hashed::new(to));
        let removed: Vec<u8> = difference
            .removed
            .iter()
            .flat_map(|path| [path.as_bytes(), b"\0"].concat())
            .collect();
        let failed = || format!("failed to pack `{}`", self.folder.display());
        text(&mut tar, "removed", &removed).with_context(failed)?;
        text(&mut tar, "index", self.index.text().as_bytes()).with_context(failed)?;
        folder(&mut tar, "files").with_context(failed)?;
        for entry in difference.added {
            append(&mut tar, "files/", entry, self.folder, cancel)?;
        }
        let written = tar.into_inner().with_context(failed)?;
        Ok(Digest::from(written.hasher))
    }
}

/// Writes all of a directory of this host, for an archive.
pub fn write_all(folder: &Path, to: &mut dyn Write, cancel: &CancellationToken) -> Result<()> {
    let index = super::read(folder, cancel)?;
    let mut tar = builder(to);
    for entry in &index.entries {
        append(&mut tar, "", entry, folder, cancel)?;
    }
    tar.finish()
        .with_context(|| format!("failed to pack `{}`", folder.display()))
}

/// Adds a directory of this host to a tar under a name, with all that is in it.
pub fn add<W: Write>(
    tar: &mut Builder<W>,
    name: &str,
    root: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    let index = super::read(root, cancel)?;
    folder(tar, name).with_context(|| format!("failed to pack `{}`", root.display()))?;
    for entry in &index.entries {
        append(tar, &format!("{name}/"), entry, root, cancel)?;
    }
    Ok(())
}

fn builder<W: Write>(to: W) -> Builder<W> {
    let mut tar = Builder::new(to);
    tar.follow_symlinks(false);
    tar
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn text<W: Write>(tar: &mut Builder<W>, name: &str, text: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
    tar.append_data(&mut header, name, text)
}

fn folder<W: Write>(tar: &mut Builder<W>, name: &str) -> io::Result<()> {
    tar.append_data(
        &mut header(EntryType::Directory, 0o755, 0),
        name,
        io::empty(),
    )
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    prefix: &str,
    entry: &Entry,
    root: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    if cancel.is_cancelled() {
        return Err(Cancelled::during(format_args!("packing `{}`", root.display())).into());
    }
    let name = format!("{prefix}{}", entry.path);
    let path = root.join(&entry.path);
    let failed = || format!("failed to pack `{}`", path.display());
    match &entry.kind {
        Kind::Folder => folder(tar, &name).with_context(failed),
        Kind::Link { target } => {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, name, target)
                .with_context(failed)
        }
        Kind::File { mode, digest } => {
            let file = File::open(&path).with_context(failed)?;
            let about = file.metadata().with_context(failed)?;
            let mut header = header(EntryType::Regular, *mode, about.size());
            header.set_mtime(u64::try_from(about.mtime()).unwrap_or(0));
            // Never longer than its header says.
            let mut content = Hashed::new(file.take(about.size()));
            tar.append_data(&mut header, name, &mut content)
                .with_context(failed)?;
            ensure!(
                Digest::from(content.hasher) == *digest,
                Hinted::new(
                    format!("`{}` changed while it was read", path.display()),
                    "Run the command again when nothing writes to it",
                )
            );
            Ok(())
        }
    }
}

/// Something, and the digest of what was read from it or written to it.
struct Hashed<T> {
    inner: T,
    hasher: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Hashed<T> {
        Hashed {
            inner,
            hasher: Sha256::new(),
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
