//! Events that the library emits while it works. The library never prints; a reporter draws the events.

use std::time::Duration;

use pspd_model::plan::Meeting;
use pspd_model::spec::Name;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// An event. `step` is the text of a [`StepId`](pspd_model::plan::StepId), or the name of a benchmark's part; `subject` is
/// the step's domain, if it has one.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
        #[serde(
            rename = "seconds",
            serialize_with = "serialize_seconds",
            deserialize_with = "deserialize_seconds"
        )]
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
    /// A host is as far as the others have to be.
    Met {
        when: Meeting,
    },
    /// A fault is active.
    Injected {
        fault: String,
    },
    /// Information for the user that belongs to no step.
    Note {
        message: String,
    },
}

fn serialize_seconds<S: serde::Serializer>(elapsed: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(seconds(*elapsed))
}

fn deserialize_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}

impl Event {
    /// The same event as one of several hosts.
    pub fn on(mut self, host: &Name) -> Event {
        match &mut self {
            Event::Planned { .. } | Event::Met { .. } | Event::Injected { .. } => {}
            Event::Note { message } => *message = format!("{host}: {message}"),
            Event::Started { step, subject, .. }
            | Event::Stage { step, subject, .. }
            | Event::Progress { step, subject, .. }
            | Event::Finished { step, subject, .. }
            | Event::Failed { step, subject, .. }
            | Event::Undone { step, subject, .. } => {
                *step = step_on(host, step);
                *subject = Some(subject_on(host, subject.as_deref()));
            }
        }
        self
    }
}

/// The id of a step of one of several hosts.
pub fn step_on(host: &Name, step: &str) -> String {
    format!("{host}:{step}")
}

/// What a step of one of several hosts is about: a domain there, or the host itself.
pub fn subject_on(host: &Name, domain: Option<&str>) -> String {
    match domain {
        Some(domain) => format!("{domain} on {host}"),
        None => host.to_string(),
    }
}

/// Returns seconds, rounded to milliseconds.
pub fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The sending side, cloned for each task.
#[derive(Clone, Debug, Default)]
pub struct Events {
    to: Option<UnboundedSender<Event>>,
    /// Whose events these are, where there are several hosts.
    host: Option<Name>,
}

impl Events {
    pub fn channel() -> (Events, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        let events = Events {
            to: Some(sender),
            host: None,
        };
        (events, receiver)
    }

    /// Returns a sender whose events are discarded.
    pub fn ignored() -> Events {
        Events::default()
    }

    /// The same for what is done for one of several hosts.
    pub fn on(&self, host: &Name) -> Events {
        Events {
            to: self.to.clone(),
            host: Some(host.clone()),
        }
    }

    pub fn emit(&self, event: Event) {
        if let Some(sender) = &self.to {
            let event = match &self.host {
                Some(host) => event.on(host),
                None => event,
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_host_arrive_as_they_were_and_name_it() {
        let host = Name::new("alpha").unwrap();
        let finished = |step: &str, subject: Option<&str>| Event::Finished {
            step: step.to_owned(),
            subject: subject.map(str::to_owned),
            title: "start".to_owned(),
            elapsed: Duration::from_millis(1500),
        };
        for (event, expected) in [
            (
                finished("web/start", Some("web")),
                r#"{"event":"finished","step":"alpha:web/start","subject":"web on alpha","title":"start","seconds":1.5}"#,
            ),
            (
                finished("lab/start", None),
                r#"{"event":"finished","step":"alpha:lab/start","subject":"alpha","title":"start","seconds":1.5}"#,
            ),
            (
                Event::Note {
                    message: "slow".to_owned(),
                },
                r#"{"event":"note","message":"alpha: slow"}"#,
            ),
        ] {
            let sent = serde_json::to_string(&event).unwrap();
            let arrived: Event = serde_json::from_str(&sent).unwrap();
            let told = serde_json::to_string(&arrived.on(&host)).unwrap();
            assert_eq!(told, expected);
        }
    }
}
