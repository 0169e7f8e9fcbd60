//! Reads services' logs from journald, with the times used to merge the logs of several guests.
//!
//! A guest's journal is in memory only, so logs are gathered to the host. Each gathering continues where the previous
//! one ended.

use pspd_model::spec::Name;

use super::Guest;
use super::session::ANSWER;
use crate::state::{LogLine, Logbook};

/// Returns the command that prints a service's log since a time, as it was written; with `follow`, also new lines.
fn logs_command(service: &Name, since: Option<f64>, follow: bool) -> String {
    let follow = if follow { " -f -n all" } else { "" };
    let since = since.map_or_else(String::new, |seconds| format!(" --since=@{seconds:.6}"));
    format!("journalctl --no-pager -q -a -o short-unix -u {service}{since}{follow}")
}

/// Parses `short-unix`: `SECONDS.MICROS HOST IDENTIFIER[PID]: MESSAGE`.
fn parse_log_line(line: &str) -> Option<LogLine> {
    let (seconds, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once(' ')?;
    let (_, message) = rest.split_once(": ")?;
    Some(LogLine {
        seconds: seconds.parse().ok()?,
        message: message.to_owned(),
    })
}

impl Guest {
    /// Saves the lines that a service logged since the last call. Blocks.
    pub fn gather(&self, service: &Name, book: &Logbook) -> anyhow::Result<()> {
        let mut entries = book.write()?;
        let mut added = Ok(());
        let command = logs_command(service, entries.last(), false);
        self.session.lines(&command, Some(ANSWER), |text| {
            if let Some(line) = parse_log_line(text) {
                added = entries.add(&line);
            }
            added.is_ok()
        })?;
        added.and_then(|()| entries.end())
    }

    /// Passes the lines that a service logs since a time to `line`, until it returns false. Blocks.
    pub fn follow(
        &self,
        service: &Name,
        since: Option<f64>,
        mut line: impl FnMut(LogLine) -> bool,
    ) -> anyhow::Result<()> {
        let command = logs_command(service, since, true);
        self.session.lines(&command, None, |text| {
            parse_log_line(text).is_none_or(&mut line)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journald_lines_are_parsed() {
        let line = parse_log_line("1763881234.123456 web web-server[42]: {\"level\":\"INFO\"}");
        assert_eq!(
            line,
            Some(LogLine {
                seconds: 1_763_881_234.123_456,
                message: "{\"level\":\"INFO\"}".into()
            })
        );
        assert_eq!(parse_log_line("-- Boot 1 --"), None);
    }

    #[test]
    fn gathering_continues_where_the_last_one_ended() {
        let web = Name::new("web").unwrap();
        assert_eq!(
            logs_command(&web, Some(1_763_881_234.123_456), false),
            "journalctl --no-pager -q -a -o short-unix -u web --since=@1763881234.123456"
        );
    }
}
