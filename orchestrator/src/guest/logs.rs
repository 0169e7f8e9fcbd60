//! Services' logs, as journald has them, with the time by which those of several guests are merged.

use super::Guest;
use crate::spec::Name;

/// One line of a service's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// Since the epoch, in the guest's clock.
    pub seconds: f64,
    pub message: String,
}

/// What prints a service's log in a guest: the last `lines`, then with `follow` what comes.
pub fn logs_command(service: &Name, lines: usize, follow: bool) -> String {
    let follow = if follow { " -f" } else { "" };
    format!("journalctl --no-pager -q -o short-unix -u {service} -n {lines}{follow}")
}

/// Parses `short-unix`: `SECONDS.MICROS HOST IDENTIFIER[PID]: MESSAGE`.
pub fn parse_log_line(line: &str) -> Option<LogLine> {
    let (seconds, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once(' ')?;
    let (_, message) = rest.split_once(": ")?;
    Some(LogLine {
        seconds: seconds.parse().ok()?,
        message: message.to_owned(),
    })
}

impl Guest {
    /// Gives a service's log line by line until it ends or `line` says that it has enough. Blocks.
    pub fn logs(
        &self,
        service: &Name,
        lines: usize,
        follow: bool,
        mut line: impl FnMut(LogLine) -> bool,
    ) -> anyhow::Result<()> {
        self.session
            .lines(&logs_command(service, lines, follow), |text| {
                parse_log_line(text).is_none_or(&mut line)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journald_lines_are_taken_apart() {
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
}
