//! A line of a service's log as people read it: of JSON its level, its message and its other fields; other text as it is.
//!
//! Knows the keys of the usual loggers. Nothing that it returns has control characters.

use std::fmt;

use pspd_model::printable::escaped;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

const LEVELS: [&str; 4] = ["level", "severity", "lvl", "levelname"];
const MESSAGES: [&str; 2] = ["message", "msg"];
/// Not shown: each line has the time of the journal.
const TIMES: [&str; 4] = ["timestamp", "time", "ts", "@timestamp"];
/// A tab of text that is not JSON, such as a stack trace.
const TAB: &str = "    ";

/// How severe a line is; the most severe is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    Trace,
    Debug,
    Info,
    #[value(alias = "warning")]
    Warn,
    Error,
    #[value(alias = "critical")]
    Fatal,
}

impl Level {
    fn of(value: &Value) -> Option<Level> {
        if let Some(number) = value.as_u64() {
            // As pino and bunyan write it.
            return Some(match number {
                10 => Level::Trace,
                20 => Level::Debug,
                30 => Level::Info,
                40 => Level::Warn,
                50 => Level::Error,
                60 => Level::Fatal,
                _ => return None,
            });
        }
        Some(match value.as_str()?.to_ascii_lowercase().as_str() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" | "information" | "notice" => Level::Info,
            "warn" | "warning" => Level::Warn,
            "error" | "err" => Level::Error,
            "fatal" | "critical" | "panic" | "alert" | "emergency" => Level::Fatal,
            _ => return None,
        })
    }

    /// Such as `INFO`.
    pub fn word(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }
}

/// The parts of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogText {
    pub level: Option<Level>,
    /// The message, and the other fields as `key=value`.
    pub text: String,
}

impl LogText {
    pub fn read(line: &str) -> LogText {
        let Ok(Fields(fields)) = serde_json::from_str(line) else {
            let text = line.trim_end().replace('\t', TAB);
            return LogText {
                level: None,
                text: visible(&text),
            };
        };
        let mut read = LogText::default();
        let (mut message, mut others) = (None, Vec::new());
        for (key, value) in &fields {
            let key = key.as_str();
            if MESSAGES.contains(&key) && message.is_none() {
                message = Some(value.as_str().map_or_else(|| compact(value), visible));
                continue;
            }
            if LEVELS.contains(&key) && read.level.is_none() {
                read.level = Level::of(value);
                if read.level.is_some() {
                    continue;
                }
            }
            if !TIMES.contains(&key) {
                others.push(format!("{}={}", visible(key), shown(value)));
            }
        }
        let parts = message.filter(|text| !text.is_empty()).into_iter();
        read.text = parts.chain(others).collect::<Vec<_>>().join(" ");
        read
    }
}

impl fmt::Display for LogText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "{:5} {}", level.word(), self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The fields of a JSON object in their order.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn shown(value: &Value) -> String {
    let is_plain = |text: &str| {
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '=');
        !text.is_empty() && !text.contains(ends)
    };
    match value {
        Value::String(text) if is_plain(text) => visible(text),
        value => compact(value),
    }
}

/// JSON on one line.
fn compact(value: &Value) -> String {
    visible(&value.to_string())
}

/// A line's text without control characters.
fn visible(text: &str) -> String {
    escaped(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_people_read_them() {
        for (line, expected) in [
            (
                r#"{"timestamp":"2026-11-28T05:00:00Z","level":"INFO","message":"serving","port":50051,"target":"a::b"}"#,
                "INFO  serving port=50051 target=a::b",
            ),
            (
                r#"{"z":"two words","a":"","msg":"hi","severity":"warning","eq":"a=b","n":null,"in":{"b":[1, 2],"a":"x y"}}"#,
                r#"WARN  hi z="two words" a="" eq="a=b" n=null in={"a":"x y","b":[1,2]}"#,
            ),
            (r#"{"level":50,"msg":"pino"}"#, "ERROR pino"),
            (r#"{"level":"audit","msg":"x"}"#, "x level=audit"),
            (r#"{"level":"critical"}"#, "FATAL "),
            (r#"{"message":{"a":1},"msg":"b"}"#, r#"{"a":1} msg=b"#),
            (
                r#"{"level":"error","message":"one\ntwo\u001b[2J","k\n":"a\u009bb"}"#,
                "ERROR one\\ntwo\\u001b[2J k\\n=a\\u009bb",
            ),
            ("panicked at a.rs:1:\r", "panicked at a.rs:1:"),
            ("\tat Main.main\x1b[31m", r"    at Main.main\u001b[31m"),
            ("[1]", "[1]"),
            ("{\"a\":", "{\"a\":"),
            ("", ""),
        ] {
            assert_eq!(LogText::read(line).to_string(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            texts in prop::collection::vec(any::<String>(), 4),
        ) {
            let json = serde_json::json!({
                "message": texts[0], "level": texts[1], texts[2].as_str(): [texts[3].as_str()], "k": texts[3],
            });
            for line in [String::from_utf8_lossy(&bytes).into_owned(), json.to_string()] {
                let read = LogText::read(&line).to_string();
                prop_assert!(!read.contains(char::is_control), "{read:?}");
            }
        }
    }
}
