//! What the caller prints while it measures.

use pspd_model::hint::Hinted;
use serde::Deserialize;

use super::result::Case;
use crate::event::{Events, Scope};

/// A line of the caller's stdout.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress { done: u64, total: u64, next: String },
    Cases(Vec<Case>),
}

/// What the caller said so far.
pub(super) struct Caller {
    scope: Scope,
    cases: Option<Vec<Case>>,
    unknown: Option<String>,
}

impl Caller {
    pub(super) fn new(events: &Events) -> Caller {
        Caller {
            scope: events.begin("protocols", "measure each protocol in turn"),
            cases: None,
            unknown: None,
        }
    }

    pub(super) fn line(&mut self, text: &str) {
        match serde_json::from_str(text) {
            Ok(Line::Progress { done, total, next }) => {
                self.scope.stage(next);
                self.scope.progress(done, Some(total));
            }
            Ok(Line::Cases(cases)) => self.cases = Some(cases),
            Err(_) => self.unknown = Some(text.trim().to_owned()),
        }
    }

    /// The results of a caller that ended well.
    pub(super) fn results(self) -> anyhow::Result<Vec<Case>> {
        let said = self.unknown.unwrap_or_default();
        let unreadable = || {
            Hinted::new(
                format!("the caller printed `{said}`, which this pspd cannot read"),
                "Build both from the same sources",
            )
        };
        Ok(self.cases.ok_or_else(unreadable)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_the_last_line_and_other_output_is_shown() {
        let mut caller = Caller::new(&Events::ignored());
        caller.line(r#"{"progress":{"done":0,"total":1,"next":"gRPC"}}"#);
        caller.line("{\"cases\":[]}\n");
        assert!(caller.results().unwrap().is_empty());
        let mut caller = Caller::new(&Events::ignored());
        caller.line("{\"cases\":[{\"protocol\":\"smoke\"}]}");
        let error = caller.results().unwrap_err().to_string();
        assert!(error.contains("smoke"), "{error}");
    }
}
