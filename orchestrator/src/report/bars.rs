//! Progress bars on a terminal: one line for each domain, and one for each other step while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pspd_model::printable::{escaped, printable};

use super::active;
use crate::event::Event;

/// Redraws per second.
const RATE: u8 = 5;
const TICK: Duration = Duration::from_millis(250);

pub(super) struct Bars {
    all: MultiProgress,
    steps: ProgressBar,
    /// By domain, or by step id for steps without a domain.
    bars: BTreeMap<String, ProgressBar>,
    /// Running steps, by the bar that shows them.
    running: BTreeMap<String, Vec<String>>,
}

fn steps_style(count: usize) -> ProgressStyle {
    let noun = if count == 1 { "step" } else { "steps" };
    style(&format!("{{elapsed:>5}} {{bar:24}} {{pos}}/{{len}} {noun}"))
}

impl Bars {
    pub(super) fn new() -> Bars {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
        let steps = all.add(ProgressBar::new(0).with_style(steps_style(0)));
        steps.enable_steady_tick(TICK);
        Bars {
            all,
            steps,
            bars: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    pub(super) fn draw(&mut self, event: &Event) {
        match event {
            Event::Met { .. } => {}
            Event::Injected { fault } => self.say(&active(fault)),
            Event::Planned { steps } => {
                self.steps.set_style(steps_style(*steps));
                self.steps.set_length(*steps as u64);
            }
            Event::Started {
                step,
                subject,
                title,
            } => self.begin(step, subject.as_deref(), title),
            Event::Stage {
                step,
                subject,
                stage,
            } => {
                if let Some(bar) = self.bars.get(key(step, subject.as_deref())) {
                    bar.set_message(printable(stage));
                }
            }
            Event::Progress {
                step,
                subject,
                done,
                total,
            } => self.progress(step, subject.as_deref(), *done, *total),
            Event::Finished { step, subject, .. } => {
                self.steps.inc(1);
                self.end(step, subject.as_deref());
            }
            Event::Failed {
                step,
                subject,
                title,
                ..
            } => {
                self.say(&format!(
                    "{}: {title}: failed",
                    key(step, subject.as_deref())
                ));
                self.end(step, subject.as_deref());
            }
            Event::Undone {
                step,
                subject,
                title,
            } => self.say(&format!(
                "{}: {title}: undone",
                key(step, subject.as_deref())
            )),
            Event::Note { message } => self.say(&format!("note: {message}")),
        }
    }

    pub(super) fn clear(&self) {
        // A closed terminal has nothing to clear.
        let _ = self.all.clear();
    }

    fn say(&self, line: &str) {
        let _ = self.all.println(escaped(line));
    }

    fn begin(&mut self, step: &str, subject: Option<&str>, title: &str) {
        let key = key(step, subject).to_owned();
        self.running
            .entry(key.clone())
            .or_default()
            .push(step.to_owned());
        let bar = self.bars.entry(key.clone()).or_insert_with(|| {
            let bar = ProgressBar::new_spinner()
                .with_style(style("{elapsed:>5} {spinner} {prefix:20} {msg}"))
                .with_prefix(key);
            let bar = self.all.insert_before(&self.steps, bar);
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(printable(title));
    }

    fn progress(&self, step: &str, subject: Option<&str>, done: u64, total: Option<u64>) {
        let (Some(bar), Some(total)) = (self.bars.get(key(step, subject)), total) else {
            return;
        };
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style(
                "{elapsed:>5} {spinner} {prefix:20} {bar:24} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left, {msg}",
            ));
        }
        bar.set_position(done);
    }

    fn end(&mut self, step: &str, subject: Option<&str>) {
        let key = key(step, subject);
        let running = self.running.entry(key.to_owned()).or_default();
        running.retain(|other| other != step);
        let idle = running.is_empty();
        let Some(bar) = self.bars.get(key) else {
            return;
        };
        bar.set_style(style("{elapsed:>5} {spinner} {prefix:20} {msg}"));
        if subject.is_none() {
            bar.finish_and_clear();
            self.bars.remove(key);
        } else if idle {
            bar.set_message("ready");
        }
    }
}

fn key<'a>(step: &'a str, subject: Option<&'a str>) -> &'a str {
    subject.unwrap_or(step)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates of this file are valid")
        .progress_chars("=> ")
}
