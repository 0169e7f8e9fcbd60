//! The way of a release's files to the guest: the release disk where that works, else SSH.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::release::{Release, ReleaseFile};
use super::script::{self, Encoding};
use super::session::Session;
use crate::cancelled::Cancelled;
use crate::disk::release::{Extent, ReleaseDisk};
use crate::event::Scope;
use crate::progress::Progress;

/// Higher levels need seconds on the host and save little time in the guest.
const LEVEL: i32 = 3;

/// A file that the guest lacks.
pub(super) struct Sent<'a> {
    pub file: &'a ReleaseFile,
    /// Its path on the host.
    pub from: &'a Path,
    /// What people know it by.
    pub name: &'a Path,
}

/// What a push does after it looked at the guest.
pub(super) struct Transfer<'a> {
    pub session: &'a Session,
    pub release: &'a Release,
    pub files: Vec<Sent<'a>>,
    /// The script that follows when the files are in the guest.
    pub then: String,
    /// The deadline of that script.
    pub limit: Duration,
    pub encoding: Encoding,
    pub scope: &'a Scope,
    pub cancel: &'a CancellationToken,
}

impl Transfer<'_> {
    /// Copies the files and completes the release. `disk` is the release disk, if the guest has one. Returns the number of
    /// bytes read on the host.
    pub(super) fn run(&self, disk: Option<&Path>) -> anyhow::Result<u64> {
        if let Some(disk) = disk.filter(|_| self.fits_disk()) {
            match self.by_disk(disk)? {
                Ok(pushed) => return Ok(pushed),
                Err(reason) => self.scope.note(format!(
                    "`{}` gets its release by SSH, not by its disk: {reason}",
                    self.release.service
                )),
            }
        }
        let mut pushed = 0;
        for sent in &self.files {
            self.scope.stage(format!("pushing {}", sent.name.display()));
            pushed += self.send(sent)?;
        }
        self.scope.stage("unpacking");
        self.session
            .script_within("complete the release", &self.then, self.limit)?;
        Ok(pushed)
    }

    fn fits_disk(&self) -> bool {
        let lengths = self.files.iter().map(|sent| sent.from.metadata());
        // A file that cannot be read is reported when it is copied.
        let lengths = lengths.flatten().map(|found| found.len());
        !self.files.is_empty() && ReleaseDisk::has_room(lengths)
    }

    /// Writes the files to the disk, lets the guest read them, and empties the disk. The inner error is the reason why the
    /// files have to go through SSH.
    fn by_disk(&self, path: &Path) -> anyhow::Result<Result<u64, String>> {
        let mut disk = match ReleaseDisk::open(path) {
            Ok(disk) => disk,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let result = match self.write(&mut disk) {
            Ok(extents) => self.read(&extents),
            Err(error) if self.cancel.is_cancelled() => Err(error),
            Err(error) => Ok(Err(format!("{error:#}"))),
        };
        disk.clear()?;
        result
    }

    fn write(&self, disk: &mut ReleaseDisk) -> anyhow::Result<Vec<Extent>> {
        let mut extents = Vec::new();
        for sent in &self.files {
            if self.cancel.is_cancelled() {
                bail!(Cancelled::during("writing the release disk"));
            }
            self.scope.stage(format!("pushing {}", sent.name.display()));
            extents.push(disk.write(sent.from)?);
        }
        Ok(extents)
    }

    /// One script for all files: in an emulated guest each script takes a second.
    fn read(&self, extents: &[Extent]) -> anyhow::Result<Result<u64, String>> {
        self.scope.stage("reading the release disk");
        let files = self.files.iter().zip(extents);
        let files: Vec<_> = files.map(|(sent, extent)| (sent.file, *extent)).collect();
        let script = script::read_disk(self.release, &files, &self.then);
        let report = self
            .session
            .script_within("complete the release", &script, self.limit)?;
        let mut lines = report.lines();
        Ok(match lines.find_map(|line| line.strip_prefix("refused ")) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(extents.iter().map(|extent| extent.length).sum()),
        })
    }

    fn send(&self, sent: &Sent) -> anyhow::Result<u64> {
        let Sent { file, from, name } = *sent;
        let what = format!("push `{}`", name.display());
        let source =
            File::open(from).with_context(|| format!("failed to read `{}`", from.display()))?;
        let size = source
            .metadata()
            .with_context(|| format!("failed to read `{}`", from.display()))?
            .len();
        let progress = Progress::new(Some(size), "pushing a file", self.scope, self.cancel);
        let content = progress.watch(source);
        let receive = script::receive(self.release, file, self.encoding);
        let fed = match self.encoding {
            Encoding::Plain => self.session.feed(&what, &receive, content),
            Encoding::Zstd => {
                let compressed = zstd::stream::read::Encoder::new(content, LEVEL)
                    .with_context(|| format!("failed to {what}"))?;
                self.session.feed(&what, &receive, compressed)
            }
        };
        if self.cancel.is_cancelled() {
            bail!(Cancelled::during(format_args!(
                "pushing `{}`",
                name.display()
            )));
        }
        fed.map(|_| size)
    }
}
