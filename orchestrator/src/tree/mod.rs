//! Directories that are pushed with a service: what is in one, as an index with one digest, and a tar of a part of it.
//!
//! A tree has files, directories and symbolic links that lead to places inside of it. Sockets, devices and links to other
//! places are refused, on this host and in an archive.

mod index;
mod link;
mod pack;
mod unpack;

pub use index::Index;
pub use pack::{Pack, add, write_all};
pub use unpack::{check, unpack};

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Digest, Size};
use tokio_util::sync::CancellationToken;

use crate::digest;

/// More than the dependencies of large programs: a `node_modules` of a web application has some ten thousand.
pub const MOST_ENTRIES: usize = 200_000;
/// More than a guest's disk has in most deployments.
pub const LARGEST: Size = Size::gib(4);

/// A path in a tree, relative, with `/` between its parts; and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File { mode: u32, digest: Digest },
    Link { target: String },
}

/// Permission bits in a guest, where files belong to root, and to the group of the service's user: the group may read and run
/// what the owner may.
pub fn mode_in_guest(mode: u32) -> u32 {
    mode & 0o705 | mode >> 3 & 0o050
}

/// Reads a directory of this host, unless `cancel` ends that first.
pub fn read(folder: &Path, cancel: &CancellationToken) -> Result<Index> {
    let found = walk(folder)?;
    let entries = found.into_iter().map(|(path, kind)| {
        let kind = match kind {
            Seen::Folder => Kind::Folder,
            Seen::Link(target) => Kind::Link { target },
            Seen::File(mode) => Kind::File {
                mode,
                digest: digest::of_file(&folder.join(&path), cancel)?,
            },
        };
        Ok(Entry { path, kind })
    });
    let entries: Vec<Entry> = entries.collect::<Result<_>>()?;
    Ok(Index::new(entries))
}

/// The paths of a directory's files.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = walk(folder)?.into_iter();
    let files = found.filter(|(_, kind)| matches!(kind, Seen::File(_)));
    Ok(files.map(|(path, _)| folder.join(path)).collect())
}

/// What is seen without reading a file.
enum Seen {
    Folder,
    File(u32),
    Link(String),
}

/// Everything below a directory, in the order of its paths.
fn walk(folder: &Path) -> Result<Vec<(String, Seen)>> {
    let mut found = Vec::new();
    let mut size = 0_u64;
    let mut open = vec![String::new()];
    while let Some(parent) = open.pop() {
        let path = folder.join(&parent);
        let context = || format!("failed to read `{}`", path.display());
        for entry in fs::read_dir(&path).with_context(context)? {
            let entry = entry.with_context(context)?;
            let shown = || entry.path().display().to_string();
            let name = entry.file_name();
            let name = name
                .to_str()
                .filter(|name| !name.contains(char::is_control));
            let name = name.ok_or_else(|| {
                let shown = shown();
                let shown = shown.escape_debug();
                let message =
                    format!("the name of `{shown}` is not UTF-8, or has control characters");
                Hinted::new(message, "Rename it")
            })?;
            let below = match parent.as_str() {
                "" => name.to_owned(),
                parent => format!("{parent}/{name}"),
            };
            let about = entry.metadata();
            let about = about.with_context(|| format!("failed to read `{}`", shown()))?;
            let kind = about.file_type();
            let seen = if kind.is_dir() {
                open.push(below.clone());
                Seen::Folder
            } else if kind.is_symlink() {
                Seen::Link(link(folder, &below)?)
            } else if kind.is_file() {
                size = size.saturating_add(about.len());
                Seen::File(mode_in_guest(about.permissions().mode()))
            } else {
                bail!(
                    "`{}` is a {}: a directory in `files` may have files, directories and links only. Remove it, or move it \
                     elsewhere",
                    shown(),
                    special(kind)
                )
            };
            found.push((below, seen));
            ensure!(
                found.len() <= MOST_ENTRIES && size <= LARGEST.0,
                "`{}` has more than {MOST_ENTRIES} entries, or more than {LARGEST}. Push a directory with the service's \
                 files alone",
                folder.display()
            );
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

fn link(folder: &Path, path: &str) -> Result<String> {
    let at = folder.join(path);
    let target = fs::read_link(&at);
    let target = target.with_context(|| format!("failed to read `{}`", at.display()))?;
    let inside = target
        .to_str()
        .filter(|target| link::leads_inside(path, target));
    let inside = inside.with_context(|| {
        format!(
            "the link `{}` leads to `{}`, which may be outside of the directory. Make it relative to a place in the directory, \
             or put a copy in its place",
            at.display(),
            target.display()
        )
    })?;
    Ok(inside.to_owned())
}

fn special(kind: fs::FileType) -> &'static str {
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests;
