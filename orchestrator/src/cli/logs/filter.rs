//! Which lines of the logs are shown.

use clap::ValueEnum as _;
use jiff::{Timestamp, Zoned};
use regex::Regex;

use super::time::moment;
use crate::log_text::{Level, LogText};
use crate::state::LogLine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct Filter {
    /// Show lines from this time on: `05:00`, `2026-11-28 05:00`, RFC 3339, or `10m` for ten minutes ago
    #[arg(long, value_name = "TIME", value_parser = from_now)]
    pub(super) since: Option<Timestamp>,
    /// Show lines up to this time; following ends then
    #[arg(long, value_name = "TIME", value_parser = from_now)]
    pub(in crate::cli) until: Option<Timestamp>,
    /// Show lines of this level or a more severe one; lines without a level are left out
    #[arg(long, value_name = "LEVEL", ignore_case = true)]
    level: Option<Level>,
    /// Show lines whose text, as the service wrote it, matches this regular expression
    #[arg(long, value_name = "PATTERN", value_parser = Regex::new)]
    grep: Option<Regex>,
}

fn from_now(text: &str) -> Result<Timestamp, String> {
    moment(text, &Zoned::now())
}

impl Filter {
    /// Fails where no line can pass.
    pub(in crate::cli) fn check(&self) -> anyhow::Result<()> {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since > until => {
                anyhow::bail!("--since ({since:.0}) is after --until ({until:.0})")
            }
            _ => Ok(()),
        }
    }

    /// The words that give this filter, also where the clock or its zone is another.
    pub(super) fn words(&self) -> Vec<String> {
        let level = self.level.and_then(|level| level.to_possible_value());
        let options = [
            ("--since", self.since.map(|time| time.to_string())),
            ("--until", self.until.map(|time| time.to_string())),
            ("--level", level.map(|level| level.get_name().to_owned())),
            ("--grep", self.grep.as_ref().map(ToString::to_string)),
        ];
        let given = options.into_iter();
        given
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
            .collect()
    }

    pub(super) fn passes(&self, line: &LogLine) -> bool {
        let seconds = |time: Timestamp| time.as_microsecond() as f64 / 1e6;
        self.since
            .is_none_or(|since| line.seconds >= seconds(since))
            && self
                .until
                .is_none_or(|until| line.seconds <= seconds(until))
            && self
                .grep
                .as_ref()
                .is_none_or(|grep| grep.is_match(&line.message))
            && self
                .level
                .is_none_or(|least| LogText::read(&line.message).level >= Some(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(no_binary_name = true)]
    struct Words {
        #[command(flatten)]
        filter: Filter,
    }

    #[test]
    fn its_words_give_the_same_filter() {
        use clap::Parser as _;
        for words in [
            vec![],
            vec!["--since=10m", "--until=2100-01-01", "--level=warn"],
            vec!["--grep=-x\\s'a'"],
        ] {
            let filter = Words::parse_from(words).filter;
            let again = Words::parse_from(filter.words()).filter;
            assert_eq!(format!("{again:?}"), format!("{filter:?}"));
        }
    }

    fn passing(filter: &Filter) -> Vec<usize> {
        let lines = [
            (1.0, r#"{"level":"INFO","message":"serving"}"#),
            (2.0, r#"{"level":"WARN","message":"slow"}"#),
            (3.5, r#"{"level":"ERROR","message":"serving failed"}"#),
            (4.0, "panicked while serving"),
        ];
        let passes = |(number, (seconds, message)): (usize, (f64, &str))| {
            let message = message.to_owned();
            filter
                .passes(&LogLine { seconds, message })
                .then_some(number)
        };
        lines.into_iter().enumerate().filter_map(passes).collect()
    }

    #[test]
    fn a_line_passes_all_filters() {
        let at = |second| Timestamp::from_second(second).ok();
        let grep = Regex::new("serving( failed)?").ok();
        let all = Filter::default();
        for (filter, expected) in [
            (all.clone(), &[0, 1, 2, 3][..]),
            (
                Filter {
                    since: at(2),
                    ..all.clone()
                },
                &[1, 2, 3],
            ),
            (
                Filter {
                    until: at(2),
                    ..all.clone()
                },
                &[0, 1],
            ),
            (
                Filter {
                    since: at(2),
                    until: at(3),
                    ..all.clone()
                },
                &[1],
            ),
            (
                Filter {
                    level: Some(Level::Warn),
                    ..all.clone()
                },
                &[1, 2],
            ),
            (
                Filter {
                    level: Some(Level::Trace),
                    ..all.clone()
                },
                &[0, 1, 2],
            ),
            (
                Filter {
                    level: Some(Level::Fatal),
                    ..all.clone()
                },
                &[],
            ),
            (
                Filter {
                    grep: grep.clone(),
                    ..all.clone()
                },
                &[0, 2, 3],
            ),
            (
                Filter {
                    grep,
                    level: Some(Level::Warn),
                    ..all
                },
                &[2],
            ),
        ] {
            assert_eq!(passing(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn since_is_not_after_until() {
        let at = |second| Timestamp::from_second(second).ok();
        let filter = |since, until| Filter {
            since,
            until,
            ..Filter::default()
        };
        assert!(filter(at(1), at(1)).check().is_ok());
        assert!(filter(at(1), None).check().is_ok());
        let error = filter(at(2), at(1)).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "--since (1970-01-01T00:00:02Z) is after --until (1970-01-01T00:00:01Z)"
        );
    }
}
