//! Events that the library emits while it works. The library never prints; a reporter draws the events.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// An event. `step` is the text of a [`StepId`](pspd_model::plan::StepId), or the name of a benchmark's part; `subject` is
/// the step's domain, if it has one.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Planned {
        steps: usize,
    },
    Started {
        step: String,
        subject: Option<String>,
        title: String,
    },
    /// A step entered a stage, such as `waiting for SSH`.
    Stage {
        step: String,
        subject: Option<String>,
        stage: String,
    },
    /// The number of bytes or items done, and the total.
    Progress {
        step: String,
        subject: Option<String>,
        done: u64,
        total: Option<u64>,
    },
    Finished {
        step: String,
        subject: Option<String>,
        title: String,
        #[serde(rename = "seconds", serialize_with = "serialize_seconds")]
        elapsed: Duration,
    },
    Failed {
        step: String,
        subject: Option<String>,
        title: String,
        error: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
    Undone {
        step: String,
        subject: Option<String>,
        title: String,
    },
    /// Information for the user that belongs to no step.
    Note {
        message: String,
    },
}

fn serialize_seconds<S: serde::Serializer>(elapsed: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(seconds(*elapsed))
}

/// Returns seconds, rounded to milliseconds.
pub fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The sending side, cloned for each task.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<UnboundedSender<Event>>);

impl Events {
    pub fn channel() -> (Events, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        (Events(Some(sender)), receiver)
    }

    /// Returns a sender whose events are discarded.
    pub fn ignored() -> Events {
        Events(None)
    }

    pub fn emit(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // Without a reporter, the event is discarded.
            let _ = sender.send(event);
        }
    }

    pub fn note(&self, message: impl Into<String>) {
        self.emit(Event::Note {
            message: message.into(),
        });
    }

    /// Announces work without a plan, and returns its scope.
    pub fn begin(&self, step: impl Into<String>, title: impl Into<String>) -> Scope {
        let scope = self.scope(step, None);
        self.emit(Event::Started {
            step: scope.step.clone(),
            subject: None,
            title: title.into(),
        });
        scope
    }

    pub fn scope(&self, step: impl Into<String>, subject: Option<String>) -> Scope {
        Scope {
            events: self.clone(),
            step: step.into(),
            subject,
        }
    }
}

/// [`Events`] bound to one step, for code that does not know the plan.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    events: Events,
    step: String,
    subject: Option<String>,
}

impl Scope {
    /// Returns a scope whose events are discarded.
    pub fn ignored() -> Scope {
        Scope::default()
    }

    pub fn stage(&self, stage: impl Into<String>) {
        self.events.emit(Event::Stage {
            step: self.step.clone(),
            subject: self.subject.clone(),
            stage: stage.into(),
        });
    }

    pub fn progress(&self, done: u64, total: Option<u64>) {
        self.events.emit(Event::Progress {
            step: self.step.clone(),
            subject: self.subject.clone(),
            done,
            total,
        });
    }

    pub fn note(&self, message: impl Into<String>) {
        self.events.note(message);
    }
}
