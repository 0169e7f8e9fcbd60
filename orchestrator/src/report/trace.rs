//! The log lines of one request in the order of its calls, independent of the guests' clocks.
//!
//! Services log `trace_id`, `span_id` and `parent_id` in JSON lines; a span's parent is the span that called it.

use std::collections::{BTreeMap, BTreeSet};

use pspd_model::spec::Name;
use serde::Deserialize;

use crate::state::LogLine;

/// A log line of a trace, and the number of calls that lead to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    pub domain: Name,
    pub line: LogLine,
    pub depth: usize,
}

/// The position of a line in its trace.
#[derive(Deserialize)]
struct Place {
    trace_id: String,
    span_id: Option<String>,
    parent_id: Option<String>,
}

/// The lines of one span, and the span that called it.
#[derive(Default)]
struct Span {
    lines: Vec<(Name, LogLine)>,
    parent: Option<String>,
}

impl Span {
    fn begin(&self) -> f64 {
        let times = self.lines.iter().map(|(_, line)| line.seconds);
        times.fold(f64::INFINITY, f64::min)
    }
}

/// Returns the lines of trace `id`: the caller's lines before those of the spans it called; siblings by time.
pub fn in_order(id: &str, lines: impl IntoIterator<Item = (Name, LogLine)>) -> Vec<Traced> {
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    for (domain, line) in lines {
        // Most lines belong to other traces; do not parse them.
        if !line.message.contains(id) {
            continue;
        }
        let Ok(place) = serde_json::from_str::<Place>(&line.message) else {
            continue;
        };
        if place.trace_id != id {
            continue;
        }
        let span = spans.entry(place.span_id.unwrap_or_default()).or_default();
        span.lines.push((domain, line));
        span.parent = span.parent.take().or(place.parent_id);
    }
    let roots: BTreeSet<&String> = spans
        .iter()
        .filter(|(_, span)| {
            !span
                .parent
                .as_ref()
                .is_some_and(|parent| spans.contains_key(parent))
        })
        .map(|(id, _)| id)
        .collect();
    let mut ordered = Vec::new();
    let mut waiting: Vec<(&String, usize)> = by_time(&spans, roots.into_iter().collect(), 0);
    while let Some((id, depth)) = waiting.pop() {
        // Each span is visited once, even if forged ids form a cycle.
        if ordered.iter().any(|(other, _)| *other == id) {
            continue;
        }
        ordered.push((id, depth));
        let called = spans
            .iter()
            .filter(|(_, span)| span.parent.as_ref() == Some(id));
        waiting.extend(by_time(
            &spans,
            called.map(|(id, _)| id).collect(),
            depth + 1,
        ));
    }
    let lines = ordered.into_iter().flat_map(|(id, depth)| {
        let mut lines = spans[id].lines.clone();
        lines.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        lines.into_iter().map(move |(domain, line)| Traced {
            domain,
            line,
            depth,
        })
    });
    lines.collect()
}

/// Returns the latest span first, so that a stack pops the earliest.
fn by_time<'a>(
    spans: &BTreeMap<String, Span>,
    mut ids: Vec<&'a String>,
    depth: usize,
) -> Vec<(&'a String, usize)> {
    ids.sort_by(|a, b| spans[*b].begin().total_cmp(&spans[*a].begin()));
    ids.into_iter().map(|id| (id, depth)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_listed_before_its_callees_even_if_clocks_differ() {
        let line = |domain: &str, seconds, span: &str, parent: Option<&str>, text: &str| {
            let parent = parent.map_or("null".to_owned(), |id| format!("\"{id}\""));
            let message = format!(
                "{{\"trace_id\":\"t1\",\"span_id\":\"{span}\",\"parent_id\":{parent},\"message\":\"{text}\"}}"
            );
            (Name::new(domain).unwrap(), LogLine { seconds, message })
        };
        let plain = (
            Name::new("web").unwrap(),
            LogLine {
                seconds: 1.0,
                message: "about t1, and no JSON".into(),
            },
        );
        let other = line("db", 0.5, "x", None, "another trace").1;
        let other = LogLine {
            message: other.message.replace("t1\"", "t2\""),
            ..other
        };
        let lines = [
            line("db", 1.0, "c", Some("b"), "query"),
            line("db", 0.9, "d", Some("a"), "create"),
            line("ai", 5.0, "b", Some("a"), "predict"),
            line("web", 3.0, "a", None, "http"),
            line("ai", 4.0, "b", None, "cache miss"),
            plain,
            (Name::new("db").unwrap(), other),
        ];
        let seen: Vec<_> = in_order("t1", lines)
            .into_iter()
            .map(|traced| {
                let message: serde_json::Value =
                    serde_json::from_str(&traced.line.message).unwrap();
                let text = message["message"].as_str().unwrap().to_owned();
                (traced.depth, traced.domain.to_string(), text)
            })
            .collect();
        let seen: Vec<_> = seen
            .iter()
            .map(|(d, n, t)| (*d, n.as_str(), t.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (0, "web", "http"),
                (1, "db", "create"),
                (1, "ai", "cache miss"),
                (1, "ai", "predict"),
                (2, "db", "query"),
            ]
        );
    }
}
