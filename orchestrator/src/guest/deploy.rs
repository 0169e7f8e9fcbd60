//! Pushes, activates and rolls back releases.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use pspd_model::spec::{Digest, Name, Size};
use tokio_util::sync::CancellationToken;

use super::packs::Packed;
use super::release::{Content, Release, ReleaseFile};
use super::script::Encoding;
use super::session::ANSWER;
use super::transfer::{Sent, Transfer};
use super::{Activated, Guest, RolledBack, script};
use crate::event::Scope;

/// What a file system needs for folders, and a service at least to run.
const SPARE: u64 = 4 << 20;
/// The time in which an emulated guest unpacks and links one entry of a directory, with much to spare.
const ENTRY: Duration = Duration::from_millis(20);

/// Reads the free space that a script printed.
fn free(report: &str) -> Option<Size> {
    let mut lines = report.lines();
    let (blocks, size) = lines.find_map(|line| line.strip_prefix("free ")?.split_once(' '))?;
    let (blocks, size): (u64, u64) = (blocks.parse().ok()?, size.parse().ok()?);
    Some(Size(blocks.saturating_mul(size)))
}

/// The space that files of a release's folder take, and directories twice: packed, and unpacked.
fn size(files: &[&ReleaseFile], packs: &[Packed]) -> anyhow::Result<Size> {
    let mut size = SPARE;
    for file in files.iter().filter(|file| file.path.is_relative()) {
        size += file.size()?;
    }
    for pack in packs {
        size += 2 * pack.file.size()?;
    }
    Ok(Size(size))
}

/// What a push needs beside the release.
pub struct Pushing<'a> {
    /// The release disk that the guest may have.
    pub disk: Option<&'a Path>,
    /// A folder for files without a name.
    pub folder: &'a Path,
    /// The deadline of the commands that prepare the release.
    pub setup: Duration,
    pub scope: &'a Scope,
    pub cancel: &'a CancellationToken,
}

impl Guest {
    /// Copies what the guest lacks of a release, prepares it without activating it, and installs its certificate. Returns the
    /// number of bytes read on the host.
    pub fn push(&self, release: &Release, pushing: &Pushing) -> anyhow::Result<u64> {
        let report = self
            .session
            .script("inspect the deployed release", &script::inspect(release))?;
        let lacks = report.lines().find_map(|line| line.strip_prefix("lacks "));
        if let Some(program) = lacks {
            bail!(
                "the service needs `{program}`, which the guest does not have. Add the package that has it to the image's \
                 `packages`, or link the executable statically"
            );
        }
        let has = |entry: &str| report.lines().any(|line| line == entry);
        let certify = if has("certified") {
            String::new()
        } else {
            script::certify(release)
        };
        if has("complete") {
            if !certify.is_empty() {
                self.session.script("install the certificate", &certify)?;
            }
            return Ok(0);
        }
        let is_present = |file: &&ReleaseFile| {
            let line = format!("have {}", file.path.display());
            matches!(file.content, Content::Host(_)) && has(&line)
        };
        let (have, missing): (Vec<&ReleaseFile>, Vec<_>) =
            release.files.iter().partition(is_present);
        let packs = self.pack(
            release,
            &report,
            pushing.folder,
            pushing.scope,
            pushing.cancel,
        )?;
        self.require_room(release, &missing, &packs, free(&report))?;
        let files = missing.into_iter().filter_map(|file| match &file.content {
            Content::Host(from) => Some(Sent {
                file,
                from,
                name: &file.path,
            }),
            Content::Text(_) => None,
        });
        let folders = packs.iter().filter_map(|pack| match &pack.file.content {
            Content::Host(from) => Some(Sent {
                file: &pack.file,
                from,
                name: &pack.path,
            }),
            Content::Text(_) => None,
        });
        let made: Vec<_> = packs
            .iter()
            .map(|pack| (pack.tree.clone(), pack.base.clone()))
            .collect();
        let fill = script::fill(release, &have, &made);
        let complete = script::complete(release) + &certify;
        let has_setup = release.has_setup();
        let entries: usize = release
            .trees
            .iter()
            .map(|tree| tree.index.entries.len())
            .sum();
        let transfer = Transfer {
            session: &self.session,
            release,
            files: files.chain(folders).collect(),
            // Each script takes a second in an emulated guest.
            then: match has_setup {
                true => fill,
                false => fill + &complete,
            },
            limit: ANSWER + ENTRY * entries.try_into().unwrap_or(u32::MAX),
            encoding: match has("zstd") {
                true => Encoding::Zstd,
                false => Encoding::Plain,
            },
            scope: pushing.scope,
            cancel: pushing.cancel,
        };
        let has_disk = report.lines().any(|line| line.starts_with("release-disk "));
        let disk = pushing.disk.filter(|_| has_disk);
        let pushed = transfer.run(disk).and_then(|pushed| {
            if has_setup {
                self.prepare(release, pushing.setup, pushing.scope)?;
                self.session.script("complete the release", &complete)?;
            }
            Ok(pushed)
        });
        pushed.map_err(|error| {
            let discard = script::discard(release);
            match self.session.script("remove what was pushed", &discard) {
                Ok(_) => error,
                // Nothing can be removed after a cancellation; the next push does it.
                Err(_) if pushing.cancel.is_cancelled() => error,
                Err(left) => error.context(format!("{left:#}")),
            }
        })
    }

    /// Fails if the guest's disk has no room for the missing files; frees what the release would replace anyway.
    fn require_room(
        &self,
        release: &Release,
        missing: &[&ReleaseFile],
        packs: &[Packed],
        free: Option<Size>,
    ) -> anyhow::Result<()> {
        let needed = size(missing, packs)?;
        let fits = |free: Option<Size>| free.is_none_or(|free| needed <= free);
        if fits(free) {
            return Ok(());
        }
        let script = script::make_room(release);
        let free = self::free(&self.session.script("make room for the release", &script)?);
        ensure!(
            fits(free),
            "the release needs {needed}, and the guest's disk has {} free. The release in use is unchanged. Free space \
             in the guest, or set a larger `system` disk for `{}`",
            free.unwrap_or(Size(0)),
            release.service
        );
        Ok(())
    }

    /// Installs a renewed certificate without restarting the service.
    pub fn certify(&self, release: &Release) -> anyhow::Result<()> {
        self.session
            .script("install the certificate", &script::certify(release))
            .map(drop)
    }

    /// Restarts the service with its current release.
    pub fn restart(&self, service: &Name) -> anyhow::Result<()> {
        self.session
            .script("restart the service", &script::restart(service))
            .map(drop)
    }

    /// Switches to a pushed release and starts it. Does nothing if the release is already active, unless it is to be
    /// restarted. `healthy` is the release that was healthy last: the only one to roll back to.
    pub fn activate(
        &self,
        release: &Release,
        healthy: Option<&Digest>,
        restart: bool,
    ) -> anyhow::Result<Activated> {
        let script = script::activate(release, healthy, restart);
        let output = self.session.script("activate the release", &script)?;
        match output.lines().last().unwrap_or_default() {
            "failed" => Ok(Activated::Failed),
            "unchanged" => Ok(Activated::Unchanged),
            "restarted" => Ok(Activated::Restarted),
            other => bail!("failed to activate the release: unexpected output `{other}`"),
        }
    }

    /// Switches back to the previous release and restarts it. If there is none, stops the service.
    pub fn roll_back(&self, service: &Name) -> anyhow::Result<RolledBack> {
        let output = self
            .session
            .script("roll back the release", &script::roll_back(service))?;
        let last = output.lines().last().unwrap_or_default();
        match last.split_once(' ') {
            None if last == "none" => Ok(RolledBack::Nowhere),
            Some(("back", digest)) => Ok(RolledBack::To(Digest::parse(digest)?)),
            Some(("failed", digest)) => Ok(RolledBack::Failed(Digest::parse(digest)?)),
            _ => bail!("failed to roll back the release: unexpected output `{last}`"),
        }
    }

    /// Stops and disables the service, and removes its releases with their secrets.
    pub fn withdraw(&self, service: &Name) -> anyhow::Result<()> {
        self.session
            .script("stop the service", &script::withdraw(service))
            .map(drop)
    }

    /// Returns the last lines of the service's log.
    pub fn last_log_lines(&self, service: &Name, count: usize) -> anyhow::Result<Vec<String>> {
        let command = format!("journalctl --no-pager -q -o cat -u {service} -n {count}");
        let output = self
            .session
            .feed("read the service's log", &command, io::empty())?;
        Ok(output.lines().map(str::to_owned).collect())
    }
}
