//! Payloads: lines of JSON with placeholders, which get other values in each call.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};

/// One line of a payload file, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it is, for errors.
    place: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The running number of the call.
    Number,
    /// A whole number from 0 to 2147483647, so that it fits an `int32`.
    Random,
    /// A random UUID.
    Uuid,
}

/// The lines of a payload file; empty lines are left out. `source` is the file's name, for errors.
pub fn lines(source: &str, text: &str) -> anyhow::Result<Vec<Line>> {
    let numbered = text.lines().enumerate();
    let full = numbered.filter(|(_, line)| !line.trim().is_empty());
    let lines = full.map(|(index, line)| {
        let line = Line::parse(&format!("{source}, line {}", index + 1), line)?;
        serde_json::from_str::<serde::de::IgnoredAny>(&line.fill(0))
            .with_context(|| format!("{}: not valid JSON", line.place))?;
        Ok(line)
    });
    let lines: Vec<Line> = lines.collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(!lines.is_empty(), "{source} has no line of JSON");
    Ok(lines)
}

impl Line {
    /// Reads a text with placeholders. `place` says where it is, for errors.
    pub fn parse(place: &str, text: &str) -> anyhow::Result<Line> {
        Ok(Line {
            place: place.to_owned(),
            parts: parts(text).with_context(|| place.to_owned())?,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Whether all calls send the same.
    pub(super) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The text for the call with this running number.
    pub(super) fn fill(&self, number: u64) -> String {
        let mut text = String::new();
        for part in &self.parts {
            let _ = match part {
                Part::Text(part) => write!(text, "{part}"),
                Part::Number => write!(text, "{number}"),
                Part::Random => write!(text, "{}", fastrand::u32(..=i32::MAX as u32)),
                Part::Uuid => write!(text, "{}", uuid::Uuid::new_v4()),
            };
        }
        text
    }
}

fn parts(text: &str) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .context("a placeholder begins with `{{` and does not end with `}}`")?;
        parts.push(Part::Text(before.to_owned()));
        parts.push(match name.trim() {
            "n" => Part::Number,
            "random" => Part::Random,
            "uuid" => Part::Uuid,
            other => bail!(
                "`{{{{{other}}}}}` is not a placeholder. They are `{{{{n}}}}`, `{{{{random}}}}` and `{{{{uuid}}}}`"
            ),
        });
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_get_values() {
        let line = Line::parse(
            "it",
            r#"{"id": "a-{{n}}", "value": {{ random }}, "key": "{{uuid}}"}"#,
        );
        let line = line.unwrap();
        let value =
            |number| -> serde_json::Value { serde_json::from_str(&line.fill(number)).unwrap() };
        let (one, two) = (value(1), value(2));
        assert_eq!((&one["id"], &two["id"]), (&"a-1".into(), &"a-2".into()));
        assert!(one["value"].as_i64().unwrap() <= i64::from(i32::MAX));
        let uuid = one["key"].as_str().unwrap();
        assert!(uuid.parse::<uuid::Uuid>().is_ok() && one["key"] != two["key"]);
        assert!(!line.is_fixed());
        assert!(Line::parse("it", "{}").unwrap().is_fixed());
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, expected) in [
            (
                "{}\n\n{\"a\": {{m}}}",
                "data.jsonl, line 3: `{{m}}` is not a placeholder. They are `{{n}}`, `{{random}}` and `{{uuid}}`",
            ),
            (
                "{\"a\": {{n}",
                "data.jsonl, line 1: a placeholder begins with `{{` and does not end with `}}`",
            ),
            (
                "{}\n{\"a\": nope}",
                "data.jsonl, line 2: not valid JSON: expected ident at line 1 column 8",
            ),
            (" \n", "data.jsonl has no line of JSON"),
        ] {
            let error = lines("data.jsonl", text).unwrap_err();
            assert_eq!(format!("{error:#}"), expected);
        }
    }
}
