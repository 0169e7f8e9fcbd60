//! Pushing a release, bringing it into use, and going back.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::release::{Content, Release, ReleaseFile};
use super::{Activated, Guest, RolledBack, script};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::progress::Progress;
use crate::spec::{Digest, Name};

/// Higher levels cost seconds of the host and save little of the guest's.
const LEVEL: i32 = 3;

impl Guest {
    /// Copies what the guest lacks of a release, which nothing there uses yet, and puts its certificate into use. Gives
    /// the bytes that were read for it.
    pub fn push(
        &self,
        release: &Release,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> anyhow::Result<u64> {
        let seen = self
            .session
            .script("look at what is deployed", &script::inspect(release))?;
        let is = |what: &str| seen.lines().any(|line| line == what);
        let certify = match is("certified") {
            true => String::new(),
            false => script::certify(release),
        };
        if is("complete") {
            if !certify.is_empty() {
                self.session.script("install the certificate", &certify)?;
            }
            return Ok(0);
        }
        let is_there = |file: &&ReleaseFile| {
            let line = format!("have {}", file.path.display());
            matches!(file.content, Content::Host(_)) && seen.lines().any(|seen| seen == line)
        };
        let have: Vec<&ReleaseFile> = release.files.iter().filter(is_there).collect();
        let mut pushed = 0;
        for file in &release.files {
            let Content::Host(from) = &file.content else {
                continue;
            };
            if have.iter().any(|other| other.path == file.path) {
                continue;
            }
            scope.stage(format!("pushing {}", file.path.display()));
            pushed += self.send(release, file, from, scope, cancel)?;
        }
        let complete = script::complete(release, &have) + &certify;
        self.session.script("complete the release", &complete)?;
        Ok(pushed)
    }

    /// Puts a renewed certificate into use, and nothing else.
    pub fn certify(&self, release: &Release) -> anyhow::Result<()> {
        self.session
            .script("install the certificate", &script::certify(release))
            .map(drop)
    }

    /// Restarts the service as it is.
    pub fn restart(&self, service: &Name) -> anyhow::Result<()> {
        self.session
            .script("restart the service", &script::restart(service))
            .map(drop)
    }

    fn send(
        &self,
        release: &Release,
        file: &ReleaseFile,
        from: &Path,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> anyhow::Result<u64> {
        let what = format!("push `{}`", from.display());
        let source =
            File::open(from).with_context(|| format!("failed to read `{}`", from.display()))?;
        let size = source
            .metadata()
            .with_context(|| format!("failed to read `{}`", from.display()))?
            .len();
        let progress = Progress::new(Some(size), "a file was pushed", scope, cancel);
        let compressed = zstd::stream::read::Encoder::new(progress.watch(source), LEVEL)
            .with_context(|| format!("failed to {what}"))?;
        let fed = self
            .session
            .feed(&what, &script::receive(release, file), compressed);
        if cancel.is_cancelled() {
            bail!(Cancelled::during(format_args!(
                "`{}` was pushed",
                from.display()
            )));
        }
        fed.map(|_| size)
    }

    /// Switches to a pushed release and starts it; one that is in use and active stays untouched.
    pub fn activate(&self, release: &Release) -> anyhow::Result<Activated> {
        let said = self
            .session
            .script("activate the release", &script::activate(release))?;
        match said.lines().last().unwrap_or_default() {
            "failed" => Ok(Activated::Failed),
            "unchanged" => Ok(Activated::Unchanged),
            "restarted" => Ok(Activated::Restarted),
            other => bail!("activating the release said `{other}`"),
        }
    }

    /// Switches back to the release before and restarts it. Where there is none, the service is stopped.
    pub fn roll_back(&self, service: &Name) -> anyhow::Result<RolledBack> {
        let said = self
            .session
            .script("roll the release back", &script::roll_back(service))?;
        let last = said.lines().last().unwrap_or_default();
        match last.split_once(' ') {
            None if last == "none" => Ok(RolledBack::Nowhere),
            Some(("back", digest)) => Ok(RolledBack::To(Digest::parse(digest)?)),
            Some(("failed", digest)) => Ok(RolledBack::Failed(Digest::parse(digest)?)),
            _ => bail!("rolling the release back said `{last}`"),
        }
    }

    /// The last lines that the service logged.
    pub fn last_log_lines(&self, service: &Name, count: usize) -> anyhow::Result<Vec<String>> {
        let command = format!("journalctl --no-pager -q -o cat -u {service} -n {count}");
        let said = self
            .session
            .feed("read the service's log", &command, io::empty())?;
        Ok(said.lines().map(str::to_owned).collect())
    }
}
