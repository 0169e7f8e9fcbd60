//! Reads an experiment from the tree, with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::{EXPERIMENT, LOAD, PHASE, STEP};
use super::units::{latency, moment, rate, share};
use super::{Action, Bounds, Call, Experiment, Load, Pace, Phase, Step, Surroundings};
use crate::topology::read::{Fields, Reader};
use crate::topology::tree::Node;
use crate::topology::{Fault, Found, Position};

const TIME_LIMIT: Duration = Duration::from_secs(10);
const RATE: f64 = 20.0;
const USERS: u64 = 20_000;
const DOCUMENTS: u64 = 10_000;

pub(super) fn resolve(root: &Node, around: &Surroundings<'_>) -> Result<Experiment, Vec<Fault>> {
    let reader = Reader::default();
    let experiment = File {
        reader: &reader,
        around,
    }
    .experiment(root);
    let faults = reader.into_faults();
    match experiment {
        Some(experiment) if faults.is_empty() => Ok(experiment),
        _ => Err(faults),
    }
}

struct File<'a> {
    reader: &'a Reader,
    around: &'a Surroundings<'a>,
}

impl File<'_> {
    fn fault(&self, at: Position, message: impl Into<String>, help: &str) {
        self.reader.fault(Fault::new(at, message).help(help));
    }

    fn experiment(&self, root: &Node) -> Option<Experiment> {
        let reader = self.reader;
        let fields = reader.object(root, root.at, &EXPERIMENT)?;
        let name = |key: &str| {
            let node = fields.get(key)?;
            reader.name(reader.text(node, key)?, node.at)
        };
        let (own, snapshot) = (name("name"), name("snapshot"));
        let about = fields
            .get("about")
            .and_then(|node| reader.text(node, "about"));
        let recovery = fields
            .get("recovery")
            .and_then(|node| reader.duration(node, "recovery"));
        let load = fields.get("load").and_then(|node| self.load(node));
        let phases = fields.get("phases").map(|node| self.phases(node));
        Some(Experiment {
            name: own?,
            about: about.map(str::to_owned),
            snapshot,
            load: load?,
            phases: phases?,
            recovery,
        })
    }

    fn load(&self, node: &Node) -> Option<Load> {
        let reader = self.reader;
        let fields = reader.object(node, node.at, &LOAD)?;
        let target = fields.get("target").and_then(|node| {
            let text = reader.text(node, "target")?;
            if !self.around.domains.contains(&text) {
                let message = format!("the deployment has no domain `{text}`");
                self.fault(node.at, message, &reader.meant(text, self.around.domains));
                return None;
            }
            reader.name(text, node.at)
        });
        let limit = match fields.get("time_limit") {
            None => Some(TIME_LIMIT),
            Some(node) => reader.duration(node, "time_limit"),
        };
        let (call, pace) = (self.call(&fields), self.pace(&fields));
        Some(Load {
            target: target?,
            call: call?,
            pace: pace?,
            limit: limit?,
        })
    }

    fn call(&self, fields: &Fields<'_>) -> Option<Call> {
        let reader = self.reader;
        let kind = self.one_of(fields, &["documents", "call", "http"], "a load")?;
        let data = match fields.get("data") {
            None => None,
            Some(node) if kind == "documents" => {
                self.fault(
                    node.at,
                    "`data` can be used only with `call` or `http`",
                    "remove it: documents have their own data",
                );
                return None;
            }
            Some(node) => Some(self.file(node, "data")?),
        };
        let node = fields.get(kind)?;
        match kind {
            "documents" => {
                let count = reader.number(node, kind, 1, DOCUMENTS)?;
                Some(Call::Documents(usize::try_from(count).ok()?))
            }
            "call" => Some(Call::Grpc {
                method: reader.text(node, kind)?.to_owned(),
                data,
            }),
            _ => {
                let path = reader.text(node, kind)?.to_owned();
                if !path.starts_with('/') {
                    self.fault(
                        node.at,
                        format!("`{path}` does not begin with `/`"),
                        "write a path, such as `/api/v1/collections`",
                    );
                    return None;
                }
                Some(Call::Http { path, data })
            }
        }
    }

    fn pace(&self, fields: &Fields<'_>) -> Option<Pace> {
        match (fields.get("rate"), fields.get("users")) {
            (None, None) => Some(Pace::Rate(RATE)),
            (Some(node), None) => self.reader.parsed(node, "rate", rate).map(Pace::Rate),
            (None, Some(node)) => {
                let users = self.reader.number(node, "users", 1, USERS)?;
                Some(Pace::Users(usize::try_from(users).ok()?))
            }
            (Some(_), Some(_)) => {
                self.fault(
                    fields.at("users"),
                    "a load has `rate` or `users`, not both",
                    "remove one of them",
                );
                None
            }
        }
    }

    fn phases(&self, node: &Node) -> Vec<Phase> {
        let nodes = self.reader.list(node, "phases");
        if nodes.is_empty() {
            self.fault(
                node.at,
                "an experiment needs at least one phase",
                "write one like `- {name: before, for: 10s}`",
            );
        }
        let mut phases: Vec<Phase> = Vec::new();
        for node in nodes {
            let Some(phase) = self.phase(node) else {
                continue;
            };
            if phases.iter().any(|other| other.name == phase.name) {
                self.fault(
                    node.at,
                    format!("two phases have the name `{}`", phase.name),
                    "rename one of them",
                );
            }
            phases.push(phase);
        }
        phases
    }

    fn phase(&self, node: &Node) -> Option<Phase> {
        let reader = self.reader;
        let fields = reader.object(node, node.at, &PHASE)?;
        let name = fields
            .get("name")
            .and_then(|node| reader.text(node, "name"));
        let lasts = fields
            .get("for")
            .and_then(|node| reader.duration(node, "for"));
        let bounds = Bounds {
            errors: fields
                .get("errors")
                .and_then(|node| reader.parsed(node, "errors", share)),
            p99: fields
                .get("p99")
                .and_then(|node| reader.parsed(node, "p99", latency)),
        };
        let steps = fields
            .get("steps")
            .map_or(&[][..], |node| reader.list(node, "steps"));
        let mut steps: Vec<Step> = steps
            .iter()
            .filter_map(|node| self.step(node, lasts))
            .collect();
        steps.sort_by_key(|step| step.at);
        Some(Phase {
            name: name?.to_owned(),
            lasts: lasts?,
            steps,
            bounds,
        })
    }

    fn step(&self, node: &Node, lasts: Option<Duration>) -> Option<Step> {
        let reader = self.reader;
        let fields = reader.object(node, node.at, &STEP)?;
        let at = match fields.get("at") {
            None => Duration::ZERO,
            Some(node) => reader.parsed(node, "at", moment)?,
        };
        if lasts.is_some_and(|lasts| at > lasts) {
            self.fault(
                fields.at("at"),
                "this step is due after the end of its phase",
                "let the phase last longer, or move the step to another one",
            );
        }
        let kind = self.one_of(&fields, &["fault", "heal", "power", "up"], "a step")?;
        let value = fields.get(kind)?;
        let time = fields.get("for");
        if let Some(node) = time.filter(|_| kind != "fault") {
            self.fault(
                node.at,
                format!("`for` can be used only with `fault`, not with `{kind}`"),
                "remove it",
            );
            return None;
        }
        let action = match kind {
            "fault" => Action::Fault {
                words: reader.text(value, kind)?.to_owned(),
                lasts: match time {
                    None => None,
                    Some(node) => Some(reader.duration(node, "for")?),
                },
            },
            "heal" => {
                reader.word(value, kind, &[("all", ())])?;
                Action::Heal
            }
            "power" => Action::Power {
                words: reader.text(value, kind)?.to_owned(),
            },
            _ => Action::Up {
                file: self.file(value, kind)?,
            },
        };
        (self.around.check)(&action)
            .map_err(|message| reader.fault(Fault::new(value.at, message)))
            .ok()?;
        Some(Step { at, action })
    }

    /// The only key of these that is set.
    fn one_of(
        &self,
        fields: &Fields<'_>,
        keys: &[&'static str],
        what: &str,
    ) -> Option<&'static str> {
        let listed = keys.join("`, `");
        let mut set = keys.iter().filter(|key| fields.get(key).is_some());
        match (set.next(), set.next()) {
            (Some(key), None) => Some(key),
            (None, _) => {
                self.fault(
                    fields.at,
                    format!("{what} needs one of `{listed}`"),
                    "add one of them",
                );
                None
            }
            (Some(one), Some(other)) => {
                self.fault(
                    fields.at(other),
                    format!("{what} can have only one of `{listed}`, not `{one}` and `{other}`"),
                    "remove one of them",
                );
                None
            }
        }
    }

    fn file(&self, node: &Node, what: &str) -> Option<PathBuf> {
        let path = self.around.folder.join(self.reader.text(node, what)?);
        if (self.around.look)(&path) != Found::File {
            self.fault(
                node.at,
                format!("no such file: `{}`", path.display()),
                "paths are relative to the experiment's directory",
            );
            return None;
        }
        Some(path)
    }
}
