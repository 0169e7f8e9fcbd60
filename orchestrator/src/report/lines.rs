//! Progress without a terminal: one plain line for each event that belongs in a log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{active, counted};
use crate::event::Event;

/// The time between two progress lines of one step. Faster steps are reported only when they finish.
const INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Lines {
    began: Instant,
    /// When the progress of a step was last reported.
    reported: BTreeMap<String, Instant>,
}

impl Lines {
    pub(super) fn new() -> Lines {
        Lines {
            began: Instant::now(),
            reported: BTreeMap::new(),
        }
    }

    /// Returns the line for an event, if there is one.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        let text = self.text(event)?;
        Some(format!(
            "[{:>6.1} s] {text}",
            self.began.elapsed().as_secs_f64()
        ))
    }

    fn text(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Planned { steps: 0 } => "nothing to do".to_owned(),
            Event::Planned { steps } => counted(*steps, "step"),
            Event::Started { .. } | Event::Met { .. } => return None,
            Event::Stage { subject, stage, .. } => about(subject.as_deref(), stage),
            Event::Progress {
                step,
                subject,
                done,
                total: Some(total),
            } if *total > 0 => {
                let reported = self
                    .reported
                    .entry(step.clone())
                    .or_insert_with(Instant::now);
                if reported.elapsed() < INTERVAL {
                    return None;
                }
                *reported = Instant::now();
                about(subject.as_deref(), &format!("{} %", done * 100 / total))
            }
            Event::Progress { .. } => return None,
            Event::Finished {
                subject,
                title,
                elapsed,
                ..
            } => about(
                subject.as_deref(),
                &format!("{title}: done in {:.1} s", elapsed.as_secs_f64()),
            ),
            Event::Failed { subject, title, .. } => {
                about(subject.as_deref(), &format!("{title}: failed"))
            }
            Event::Undone { subject, title, .. } => {
                about(subject.as_deref(), &format!("{title}: undone"))
            }
            Event::Injected { fault } => active(fault),
            Event::Note { message } => format!("note: {message}"),
        })
    }
}

fn about(subject: Option<&str>, text: &str) -> String {
    match subject {
        Some(subject) => format!("{subject}: {text}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_reported_for_slow_steps() {
        let mut lines = Lines::new();
        let progress = Event::Progress {
            step: "image/debian".into(),
            subject: None,
            done: 42,
            total: Some(100),
        };
        assert_eq!(lines.text(&progress), None);
        let Some(long_ago) = Instant::now().checked_sub(INTERVAL) else {
            return;
        };
        lines.reported.insert("image/debian".into(), long_ago);
        assert_eq!(lines.text(&progress), Some("42 %".to_owned()));
    }
}
