//! Reads the tar of a tree from an archive, which may be anybody's.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tar::{Archive, EntryType};
use tokio_util::sync::CancellationToken;

use super::{MOST_ENTRIES, link};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::full_disk;
use crate::progress::Progress;

/// Linux's limit for a path, which is also what a name in the tar may have.
const LONGEST_PATH: u64 = 4096;
/// Of all paths together, in bytes: they are in memory while the tar is read.
const MOST_TEXT: usize = 32 << 20;

/// Reads all of a tar and keeps nothing. What it accepts, [`unpack`] accepts.
pub fn check(from: impl Read, cancel: &CancellationToken) -> Result<()> {
    read(from, None, cancel)
}

/// Unpacks a tar into a new directory.
pub fn unpack(from: impl Read, folder: &Path, cancel: &CancellationToken) -> Result<()> {
    make_folder(folder)?;
    read(from, Some(folder), cancel)
}

fn read(from: impl Read, into: Option<&Path>, cancel: &CancellationToken) -> Result<()> {
    let progress = Progress::new(None, "reading a directory", &Scope::ignored(), cancel);
    let mut tar = Archive::new(progress.watch(from));
    let mut folders = BTreeSet::from([String::new()]);
    let mut names = BTreeSet::new();
    let mut text = 0;
    let (mut long_name, mut long_target) = (None, None);
    // Without the extensions that the crate would follow: they are read here, within a limit.
    for entry in tar
        .entries()
        .context("failed to read a directory")?
        .raw(true)
    {
        if cancel.is_cancelled() {
            bail!(Cancelled::during("reading a directory"));
        }
        let mut entry = entry.context("failed to read a directory")?;
        let kind = entry.header().entry_type();
        if [EntryType::GNULongName, EntryType::GNULongLink].contains(&kind) {
            let text = long(&mut entry)?;
            match kind {
                EntryType::GNULongName => long_name = Some(text),
                _ => long_target = Some(text),
            }
            continue;
        }
        let own = String::from_utf8(entry.path_bytes().into_owned());
        let path = match long_name.take() {
            Some(path) => path,
            None => own.context("a name is not UTF-8")?,
        };
        let path = path.strip_suffix('/').unwrap_or(&path).to_owned();
        let shown = path.escape_debug().to_string();
        ensure!(is_plain(&path), "`{shown}` is not a path in a directory");
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        ensure!(
            folders.contains(parent),
            "`{shown}` is in no directory that is listed before it"
        );
        text += path.len();
        ensure!(names.insert(path.clone()), "duplicate path `{shown}`");
        ensure!(
            names.len() <= MOST_ENTRIES && text <= MOST_TEXT,
            "there are more than {MOST_ENTRIES} entries, or more than {} MiB of paths",
            MOST_TEXT >> 20
        );
        let at = into.map(|folder| folder.join(&path));
        match kind {
            EntryType::Directory => {
                folders.insert(path);
                at.map_or(Ok(()), |at| make_folder(&at))?;
            }
            EntryType::Symlink => {
                let short = || entry.link_name_bytes().map(|name| name.into_owned());
                let target = match long_target.take() {
                    Some(target) => target,
                    None => String::from_utf8(short().unwrap_or_default())
                        .context("a link's target is not UTF-8")?,
                };
                ensure!(
                    link::leads_inside(&path, &target),
                    "the link `{shown}` leads to `{}`, which may be outside of the directory",
                    target.escape_debug()
                );
                if let Some(at) = at {
                    symlink(target, &at)
                        .with_context(|| format!("failed to create `{}`", at.display()))?;
                }
            }
            EntryType::Regular => {
                let mode = entry.header().mode().context("a mode is damaged")?;
                match at {
                    Some(at) => write(&mut entry, &at, mode)?,
                    None => {
                        io::copy(&mut entry, &mut io::sink())
                            .with_context(|| format!("failed to read `{shown}`"))?;
                    }
                }
            }
            other => bail!(
                "`{shown}` is not a file, directory or link (tar type `{}`)",
                char::from(other.as_byte()).escape_debug()
            ),
        }
    }
    ensure!(
        long_name.is_none() && long_target.is_none(),
        "the end is missing"
    );
    Ok(())
}

/// The text of an extension for long names.
fn long(entry: &mut impl Read) -> Result<String> {
    let mut text = Vec::new();
    entry
        .take(LONGEST_PATH + 2)
        .read_to_end(&mut text)
        .context("failed to read a name")?;
    ensure!(
        text.len() as u64 <= LONGEST_PATH + 1,
        "a name has more than {LONGEST_PATH} bytes"
    );
    if text.last() == Some(&0) {
        text.pop();
    }
    String::from_utf8(text).context("a name is not UTF-8")
}

fn is_plain(path: &str) -> bool {
    let plain = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(char::is_control);
    path.len() as u64 <= LONGEST_PATH && path.split('/').all(plain)
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("failed to create `{}`", path.display()))
}

/// Writes a new file. Each parent is a folder that was made here, so no link is followed.
fn write(from: &mut impl Read, path: &Path, mode: u32) -> Result<()> {
    let failed = || format!("failed to write `{}`", path.display());
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).with_context(failed)?;
    io::copy(from, &mut file)
        .map_err(|error| full_disk::named(error, &file))
        .with_context(failed)?;
    // The bits alone, and always readable for its owner.
    let mode = fs::Permissions::from_mode(mode & 0o777 | 0o400);
    file.set_permissions(mode).with_context(failed)?;
    file.sync_all().with_context(failed)
}
