//! Progress where there is no terminal: one plain line per event that a reader of a log wants.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::event::Event;

pub struct Lines {
    began: Instant,
    /// The last tenth of a step's progress that was told.
    tenths: BTreeMap<String, u64>,
}

impl Lines {
    pub fn new() -> Lines {
        Lines {
            began: Instant::now(),
            tenths: BTreeMap::new(),
        }
    }

    /// The event's line, if it has one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        let text = self.text(event)?;
        Some(format!(
            "[{:>6.1} s] {text}",
            self.began.elapsed().as_secs_f64()
        ))
    }

    fn text(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Planned { steps: 0 } => "nothing to do".to_owned(),
            Event::Planned { steps } => format!("{steps} steps"),
            Event::Started { .. } => return None,
            Event::Stage { subject, stage, .. } => about(subject.as_deref(), stage),
            Event::Progress {
                step,
                subject,
                done,
                total: Some(total),
            } if *total > 0 => {
                let tenth = done * 10 / total;
                if self.tenths.insert(step.clone(), tenth) == Some(tenth) {
                    return None;
                }
                about(subject.as_deref(), &format!("{} %", tenth * 10))
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
    fn progress_is_told_once_a_tenth() {
        let mut lines = Lines::new();
        let at = |done| Event::Progress {
            step: "image/debian".into(),
            subject: None,
            done,
            total: Some(100),
        };
        let told: Vec<_> = [1, 5, 10, 11, 100]
            .into_iter()
            .filter_map(|done| lines.text(&at(done)))
            .collect();
        assert_eq!(told, ["0 %", "10 %", "100 %"]);
    }
}
