//! Prints log lines: formatted for people, or as the services wrote them.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pspd_model::spec::Name;

use crate::report::LogFormat;
use crate::state::LogLine;
use crate::terminal;

/// While following, a line is delayed this long, so that earlier lines of other guests are printed first.
const SETTLE: Duration = Duration::from_millis(400);

/// A log line, its domain, and when it arrived.
pub(super) struct Arrived {
    pub(super) domain: Name,
    pub(super) line: LogLine,
    pub(super) at: Instant,
}

/// Writes lines to stdout; none is the lines as they are.
pub(super) struct Printer(Option<LogFormat>);

impl Printer {
    pub(super) fn new(domains: &[Name], raw: bool) -> Printer {
        let format = || LogFormat::new(domains, TimeZone::system(), terminal::out_has_color());
        Printer((!raw).then(format))
    }

    /// Prints lines with their domains and depths.
    pub(super) fn print(
        &mut self,
        lines: impl IntoIterator<Item = (Name, LogLine, usize)>,
    ) -> anyhow::Result<()> {
        // The format has escaped what it did not write itself.
        let mut out = terminal::raw().lock();
        for (domain, line, depth) in lines {
            match &mut self.0 {
                Some(format) => out.write_all(format.line(&domain, &line, depth).as_bytes())?,
                None => writeln!(out, "{}", line.message)?,
            }
        }
        Ok(out.flush()?)
    }

    pub(super) fn print_by_time(&mut self, mut lines: Vec<(Name, LogLine)>) -> anyhow::Result<()> {
        lines.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        self.print(lines.into_iter().map(|(domain, line)| (domain, line, 0)))
    }

    /// Prints lines by time, until all senders are gone, or the time has come.
    pub(super) fn print_arriving(
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
