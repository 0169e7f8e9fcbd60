//! Prints log lines: formatted for people, or as the services wrote them.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pspd_model::spec::Name;

use crate::report::{self, LogFormat};
use crate::state::LogLine;
use crate::terminal;

/// While following, a line is delayed this long, so that earlier lines of other guests are printed first.
const SETTLE: Duration = Duration::from_millis(400);

/// A log line, its domain, and when it arrived.
pub(in crate::cli) struct Arrived {
    pub(in crate::cli) domain: Name,
    pub(in crate::cli) line: LogLine,
    pub(in crate::cli) at: Instant,
}

/// Writes lines to stdout.
pub(in crate::cli) enum Printer {
    ForPeople(LogFormat),
    /// As the services wrote them.
    Raw,
    /// As JSON, with their domains, for the machine that merges those of several hosts.
    ForMerging,
}

impl Printer {
    pub(in crate::cli) fn for_people(domains: &[Name]) -> Printer {
        let (zone, color) = (TimeZone::system(), terminal::out_has_color());
        Printer::ForPeople(LogFormat::new(domains, zone, color))
    }

    /// Prints lines that are all there: by time, or those of one trace in the order of its calls.
    pub(in crate::cli) fn print_kept(
        &mut self,
        kept: Vec<(Name, LogLine)>,
        trace: Option<&str>,
    ) -> anyhow::Result<()> {
        let (Some(id), false) = (trace, matches!(self, Printer::ForMerging)) else {
            return self.print_by_time(kept);
        };
        let traced = report::trace::in_order(id, kept);
        ensure!(!traced.is_empty(), "trace `{id}` is in no service's log");
        let lines = traced.into_iter();
        self.print(lines.map(|traced| (traced.domain, traced.line, traced.depth)))
    }

    /// Prints lines with their domains and depths.
    fn print(
        &mut self,
        lines: impl IntoIterator<Item = (Name, LogLine, usize)>,
    ) -> anyhow::Result<()> {
        // The format has escaped what it did not write itself.
        let mut out = terminal::raw().lock();
        for (domain, line, depth) in lines {
            match self {
                Printer::ForPeople(format) => {
                    out.write_all(format.line(&domain, &line, depth).as_bytes())?;
                }
                Printer::Raw => writeln!(out, "{}", line.message)?,
                Printer::ForMerging => {
                    writeln!(out, "{}", serde_json::to_string(&(domain, line))?)?;
                }
            }
        }
        Ok(out.flush()?)
    }

    fn print_by_time(&mut self, mut lines: Vec<(Name, LogLine)>) -> anyhow::Result<()> {
        lines.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        self.print(lines.into_iter().map(|(domain, line)| (domain, line, 0)))
    }

    /// Prints lines by time, until all senders are gone, or the time has come.
    pub(in crate::cli) fn print_arriving(
        &mut self,
        receiver: &Receiver<Arrived>,
        until: Option<Timestamp>,
    ) -> anyhow::Result<()> {
        let mut waiting: Vec<Arrived> = Vec::new();
        loop {
            let mut ended = match receiver.recv_timeout(SETTLE) {
                Ok(arrived) => {
                    waiting.push(arrived);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            let settle = SignedDuration::from_millis(SETTLE.as_millis() as i64);
            ended |= until.is_some_and(|until| until.duration_until(Timestamp::now()) > settle);
            if ended || waiting.iter().any(|arrived| arrived.at.elapsed() >= SETTLE) {
                let lines = waiting
                    .drain(..)
                    .map(|arrived| (arrived.domain, arrived.line));
                self.print_by_time(lines.collect())?;
            }
            if ended {
                return Ok(());
            }
        }
    }
}
