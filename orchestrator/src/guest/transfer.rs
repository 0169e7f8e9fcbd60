//! The way of a release's files to the guest: the release disk where that works, else SSH.

use std::fs::File;
use std::path::Path;

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

/// What a push does after it looked at the guest.
pub(super) struct Transfer<'a> {
    pub session: &'a Session,
    pub release: &'a Release,
    /// The files that the guest lacks, with their paths on the host.
    pub files: Vec<(&'a ReleaseFile, &'a Path)>,
    /// The script that completes the release when its files are in the guest.
    pub complete: String,
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
        for (file, from) in &self.files {
            self.scope.stage(format!("pushing {}", file.path.display()));
            pushed += self.send(file, from)?;
        }
        self.session
            .script("complete the release", &self.complete)?;
        Ok(pushed)
    }

    fn fits_disk(&self) -> bool {
        let lengths = self.files.iter().map(|(_, from)| from.metadata());
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
        for (file, from) in &self.files {
            if self.cancel.is_cancelled() {
                bail!(Cancelled::during("writing the release disk"));
            }
            self.scope.stage(format!("pushing {}", file.path.display()));
            extents.push(disk.write(from)?);
        }
        Ok(extents)
    }

    /// One script for all files: in an emulated guest each script takes a second.
    fn read(&self, extents: &[Extent]) -> anyhow::Result<Result<u64, String>> {
        self.scope.stage("reading the release disk");
        let files = self.files.iter().zip(extents);
        let files: Vec<_> = files.map(|((file, _), extent)| (*file, *extent)).collect();
        let script = script::read_disk(self.release, &files, &self.complete);
        let report = self.session.script("complete the release", &script)?;
        let mut lines = report.lines();
        Ok(match lines.find_map(|line| line.strip_prefix("refused ")) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(extents.iter().map(|extent| extent.length).sum()),
        })
    }

    fn send(&self, file: &ReleaseFile, from: &Path) -> anyhow::Result<u64> {
        let what = format!("push `{}`", from.display());
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
                from.display()
            )));
        }
        fed.map(|_| size)
    }
}
