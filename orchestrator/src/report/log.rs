//! Lines of services' logs for people: the time, the domain, the level, the message and its fields.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pspd_model::spec::Name;

use crate::log_text::{Level, LogText};
use crate::state::LogLine;

/// Codes of "select graphic rendition" (ECMA-48, 8.3.117).
const DIM: u8 = 2;
/// Of domains, in their order.
const COLORS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// How lines are written; remembers the date that was written last.
pub struct LogFormat {
    domains: Vec<Name>,
    width: usize,
    zone: TimeZone,
    color: bool,
    date: Option<Date>,
}

impl LogFormat {
    /// For lines of these domains, in a time zone.
    pub fn new(domains: &[Name], zone: TimeZone, color: bool) -> LogFormat {
        let widths = domains.iter().map(|name| name.as_str().len());
        LogFormat {
            domains: domains.to_vec(),
            width: widths.max().unwrap_or(0),
            zone,
            color,
            date: None,
        }
    }

    /// A line with its end, after a line with the date where that is another one than before. `depth` indents it.
    pub fn line(&mut self, domain: &Name, line: &LogLine, depth: usize) -> String {
        let mut text = String::new();
        let time = Timestamp::from_microsecond((line.seconds * 1e6) as i64)
            .map(|time| time.to_zoned(self.zone.clone()));
        let time = match time {
            Ok(time) => {
                if self.date.replace(time.date()) != Some(time.date()) {
                    text += &format!("{}\n", self.painted(DIM, &format!("-- {} --", time.date())));
                }
                time.strftime("%H:%M:%S.%3f").to_string()
            }
            // A clock that no calendar has.
            Err(_) => "--:--:--.---".to_owned(),
        };
        let number = self.domains.iter().position(|name| name == domain);
        let color = COLORS[number.unwrap_or(0) % COLORS.len()];
        let prefix = format!("{:width$} |", domain.as_str(), width = self.width);
        let read = LogText::read(&line.message);
        let level = read.level.map_or(String::new(), |level| self.level(level));
        text + &format!(
            "{} {} {}{level}{}\n",
            self.painted(DIM, &time),
            self.painted(color, &prefix),
            "  ".repeat(depth),
            read.text
        )
    }

    fn level(&self, level: Level) -> String {
        let color = match level {
            Level::Trace | Level::Debug => DIM,
            Level::Info => 32,
            Level::Warn => 33,
            Level::Error | Level::Fatal => 31,
        };
        self.painted(color, &format!("{:5}", level.word())) + " "
    }

    fn painted(&self, color: u8, text: &str) -> String {
        if self.color {
            format!("\x1b[{color}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(color: bool) -> String {
        let [web, store] = ["web-server", "store"].map(|name| Name::new(name).unwrap());
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let mut format = LogFormat::new(&[web.clone(), store.clone()], zone, color);
        let lines = [
            (
                &web,
                1_763_848_799.567,
                r#"{"level":"INFO","message":"serving","port":80}"#,
                0,
            ),
            (&store, 1_763_848_800.001, "panicked\x1b[2J", 1),
            (
                &store,
                1_763_848_801.0,
                r#"{"level":"ERROR","msg":"a\u001b]0;b"}"#,
                0,
            ),
            (&store, f64::INFINITY, "never", 0),
        ];
        let lines = lines.map(|(domain, seconds, message, depth)| {
            let message = message.to_owned();
            format.line(domain, &LogLine { seconds, message }, depth)
        });
        lines.concat()
    }

    #[test]
    fn lines_are_aligned_and_the_date_is_written_when_it_changes() {
        insta::assert_snapshot!(shown(false), @r#"
        -- 2025-11-22 --
        23:59:59.567 web-server | INFO  serving port=80
        -- 2025-11-23 --
        00:00:00.001 store      |   panicked\u001b[2J
        00:00:01.000 store      | ERROR a\u001b]0;b
        --:--:--.--- store      | never
        "#);
    }

    #[test]
    fn with_color_only_pspds_own_codes_are_obeyed() {
        let colored = shown(true);
        let codes = regex::Regex::new("\x1b\\[[0-9]+m").unwrap();
        assert!(colored.contains("\x1b[31mERROR\x1b[0m"));
        assert_eq!(codes.replace_all(&colored, ""), shown(false));
    }
}
