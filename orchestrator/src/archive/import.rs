//! Reads an archive: first its manifest, which is checked as a whole, then its files, each compared with the manifest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pspd_model::spec::{Digest, Size};
use tokio_util::sync::CancellationToken;

use super::check;
use super::compress::{Limits, decoder};
use super::entries::{Entries, Head};
use super::hashing::Hashing;
use super::manifest::{Entry, LONGEST_MANIFEST, MANIFEST, MANIFEST_DIGEST, Manifest};
use super::{FOLDER, is_plausible};
use crate::event::Scope;
use crate::full_disk;
use crate::progress::Progress;

/// Before the manifest is known: itself, its digest, their headers, and what a decoder reads ahead.
const BEFORE_MANIFEST: u64 = LONGEST_MANIFEST + (64 << 10);
const CHUNK: usize = 256 << 10;

/// An archive whose manifest has been checked; its files are still to be read.
pub struct Opened {
    pub manifest: Manifest,
    path: PathBuf,
    entries: Entries<Box<dyn Read + Send>>,
    cancel: CancellationToken,
}

impl Opened {
    pub fn open(path: &Path, scope: &Scope, cancel: &CancellationToken) -> Result<Opened> {
        let whose = || format!("`{}` cannot be imported", path.display());
        let file =
            File::open(path).with_context(|| format!("failed to open `{}`", path.display()))?;
        let metadata = file.metadata().with_context(whose)?;
        ensure!(metadata.is_file(), "`{}` is not a file", path.display());
        let packed = metadata.len();
        let progress = Progress::new(Some(packed), "reading the archive", scope, cancel);
        let mut entries = Entries::new(
            decoder(progress.watch(file), &Limits::of(packed)).with_context(whose)?,
            BEFORE_MANIFEST,
            cancel,
        );
        let manifest = manifest(&mut entries).with_context(whose)?;
        let total = manifest.total();
        ensure!(
            is_plausible(packed, total),
            "`{}` has {} and would unpack to {}, which is not plausible for an export",
            path.display(),
            Size(packed),
            Size(total)
        );
        entries.allow(total, manifest.files.len());
        Ok(Opened {
            manifest,
            path: path.to_owned(),
            entries,
            cancel: cancel.clone(),
        })
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Reads and checks every file, and keeps none: what this accepts, an import accepts. A disk is checked in a temporary
    /// file without a name.
    pub fn verify(self) -> Result<()> {
        self.manifest.spec(Path::new("/"))?;
        self.read(|_| Ok(None))
    }

    /// Reads every file; `place` returns where a file's bytes stay, if anywhere. Each digest is computed and compared, and
    /// each disk and key is checked.
    pub(super) fn read(
        mut self,
        mut place: impl FnMut(&Entry) -> Result<Option<File>>,
    ) -> Result<()> {
        let whose = format!(
            "`{}` is damaged or not an export of pspd",
            self.path.display()
        );
        let files = std::mem::take(&mut self.manifest.files);
        for entry in &files {
            let name = &entry.name;
            let head = self
                .entries
                .next()
                .with_context(|| format!("failed to find `{FOLDER}/{name}`"))
                .with_context(|| whose.clone())?;
            self.expect(entry, head).with_context(|| whose.clone())?;
            let kept = place(entry)?;
            let to = match &kept {
                Some(file) => Some(file.try_clone()?),
                None if check::reads(&entry.content) => Some(
                    tempfile::tempfile()
                        .context("failed to create a temporary file for a check")?,
                ),
                None => None,
            };
            copy(&mut self.entries, to.as_ref(), entry, &whose)?;
            if let Some(file) = to {
                check::file(entry, file, &self.cancel).with_context(|| whose.clone())?;
            }
            if let Some(file) = kept {
                file.sync_all()
                    .with_context(|| format!("failed to write `{name}`"))?;
            }
        }
        let last = self
            .entries
            .next()
            .context("failed to read its end")
            .with_context(|| whose.clone())?;
        ensure!(
            last.is_none(),
            "{whose}: its manifest does not list the file `{}`",
            last.map(|head| head.name.to_string()).unwrap_or_default()
        );
        Ok(())
    }

    fn expect(&self, entry: &Entry, head: Option<Head>) -> Result<()> {
        let name = &entry.name;
        let head = head.with_context(|| format!("`{FOLDER}/{name}` is missing"))?;
        ensure!(
            head.name == *name,
            "the manifest lists `{name}` next, but the archive has `{}`",
            head.name
        );
        ensure!(
            head.size == entry.size,
            "`{FOLDER}/{name}` has {} bytes, but the manifest says {}",
            head.size,
            entry.size
        );
        Ok(())
    }
}

/// The archive's first two files: the manifest's digest, and the manifest.
fn manifest(entries: &mut Entries<Box<dyn Read + Send>>) -> Result<Manifest> {
    let mut texts = Vec::new();
    for (wanted, longest) in [(MANIFEST_DIGEST, 200), (MANIFEST, LONGEST_MANIFEST)] {
        let begin = || format!("it does not begin with `{FOLDER}/{wanted}`");
        let head = entries.next().with_context(begin)?;
        let head = head.filter(|head| head.name.as_str() == wanted);
        let head = head.with_context(begin)?;
        ensure!(
            head.size <= longest,
            "`{wanted}` has {} bytes; the limit is {longest}",
            head.size
        );
        let mut text = Vec::new();
        entries
            .read_to_end(&mut text)
            .with_context(|| format!("failed to read `{wanted}`"))?;
        texts.push(text);
    }
    let [sum, text] = &texts[..] else {
        unreachable!("each of the two names has a text")
    };
    let expected = format!("{}  {MANIFEST}\n", Digest::of(text));
    ensure!(
        *sum == expected.as_bytes(),
        "`{MANIFEST}` is damaged: its digest differs"
    );
    Manifest::parse(text)
}

/// Copies an entry's bytes. `whose` says whose fault it is where the bytes are not those that the manifest lists.
fn copy(from: &mut impl Read, to: Option<&File>, entry: &Entry, whose: &str) -> Result<()> {
    let name = &entry.name;
    let mut hashing = Hashing::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read
                .with_context(|| format!("failed to read `{FOLDER}/{name}`"))
                .context(whose.to_owned())?,
        };
        if count == 0 {
            break;
        }
        hashing.write_all(&buffer[..count])?;
        if let Some(mut to) = to {
            // The archive has no part in such a failure.
            to.write_all(&buffer[..count])
                .map_err(|error| full_disk::named(error, to))
                .with_context(|| format!("failed to write `{name}`"))?;
        }
    }
    ensure!(
        hashing.end().is_of(entry),
        "{whose}: `{FOLDER}/{name}` is damaged: its digest is not the manifest's"
    );
    Ok(())
}
