//! Runs the commands that prepare a release, before it is started.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::release::Release;
use super::session::ANSWER;
use super::{Guest, encode, script};
use crate::event::Scope;

/// How many lines of the output an error shows.
const LAST: usize = 20;
/// What `timeout` says of a command that it ended.
const ENDED: [i32; 2] = [124, 137];

impl Guest {
    /// Prepares a release that is in the guest, and not complete yet. Fails if a command does, or if all together take longer
    /// than `limit`.
    pub(super) fn prepare(
        &self,
        release: &Release,
        limit: Duration,
        scope: &Scope,
    ) -> anyhow::Result<()> {
        let script = script::prepare(release, limit);
        let command = format!("sh -c {}", encode::word(&script));
        let mut last = VecDeque::new();
        let mut status = None;
        let ran = self.session.lines(&command, Some(limit + ANSWER), |line| {
            if let Some(text) = line.strip_prefix("exit ") {
                status = text.parse().ok();
            }
            if let Some(command) = line.strip_prefix("$ ") {
                scope.stage(format!("setting up: {command}"));
            }
            if last.len() > LAST {
                last.pop_front();
            }
            last.push_back(line.to_owned());
            true
        });
        ran.context("failed to set up the release")?;
        last.pop_back();
        let how = match status {
            Some(0) => return Ok(()),
            Some(status) if ENDED.contains(&status) => format!(
                "it did not end within {} s. Increase `setup_timeout`",
                limit.as_secs()
            ),
            Some(status) => format!("exit code {status}"),
            None => "it did not report how it ended".to_owned(),
        };
        let shown: String = last.iter().map(|line| format!("\n    {line}")).collect();
        let shown = match shown.is_empty() {
            true => "\nit printed nothing".to_owned(),
            false => format!("\nits last lines:{shown}"),
        };
        bail!("the `setup` of the service failed: {how}{shown}\nThe release in use is unchanged")
    }
}
