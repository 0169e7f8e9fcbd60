//! Faults that the user injected: what each does, on which domains, and until when.
//!
//! Owns the values and their rules; how a fault is applied is the planner's.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{Mac, Name, Size, Spec};

/// A fault that the user injected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub effect: Effect,
    /// When it was injected, in seconds since 1970.
    pub since: u64,
    /// When it ends, in seconds since 1970; `None` if it stays until it is healed.
    #[serde(default)]
    pub until: Option<u64>,
}

impl Fault {
    pub fn new(effect: Effect, now: u64, lasts: Option<Duration>) -> Fault {
        Fault {
            effect,
            since: now,
            until: lasts.map(|lasts| now.saturating_add(lasts.as_secs())),
        }
    }

    pub fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Effect {
    /// No frame between two groups of domains is forwarded.
    Partition {
        from: BTreeSet<Name>,
        to: BTreeSet<Name>,
        direction: Direction,
    },
    /// No frame between the domain and any other is forwarded.
    Isolate { domain: Name },
    /// The domain's network card has no carrier.
    Link { domain: Name },
    /// The virtual CPUs are stopped.
    Pause { domain: Name },
    /// The power was cut.
    Kill { domain: Name },
    /// The guest has less memory than the topology says.
    Memory { domain: Name, to: Size },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Both,
    /// From the first to the second only.
    OneWay,
}

/// Frames that the lab's bridge does not forward: those from one MAC to another. `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cut {
    pub from: Option<Mac>,
    pub to: Option<Mac>,
}

impl Effect {
    /// What ids of such faults begin with.
    pub fn word(&self) -> &'static str {
        match self {
            Effect::Partition { .. } => "partition",
            Effect::Isolate { .. } => "isolate",
            Effect::Link { .. } => "link",
            Effect::Pause { .. } => "pause",
            Effect::Kill { .. } => "kill",
            Effect::Memory { .. } => "memory",
        }
    }

    /// The domains that it acts on.
    pub fn domains(&self) -> BTreeSet<&Name> {
        match self {
            Effect::Partition { from, to, .. } => from.union(to).collect(),
            Effect::Isolate { domain }
            | Effect::Link { domain }
            | Effect::Pause { domain }
            | Effect::Kill { domain }
            | Effect::Memory { domain, .. } => BTreeSet::from([domain]),
        }
    }

    /// What is left of it on the domains of a spec; `None` if that is nothing.
    pub fn within(mut self, spec: &Spec) -> Option<Effect> {
        let has = |name: &Name| spec.domains.contains_key(name);
        match &mut self {
            Effect::Partition { from, to, .. } => {
                from.retain(has);
                to.retain(has);
                (!from.is_empty() && !to.is_empty()).then_some(self)
            }
            _ => {
                let whole = self.domains().into_iter().all(has);
                whole.then_some(self)
            }
        }
    }

    /// What the lab's bridge must not forward, on the domains of a spec.
    pub fn cuts(&self, spec: &Spec) -> BTreeSet<Cut> {
        let mac = |name: &Name| spec.domains.get(name).map(|domain| domain.mac);
        let mut cuts = BTreeSet::new();
        match self {
            Effect::Partition {
                from,
                to,
                direction,
            } => {
                for from in from.iter().filter_map(mac).map(Some) {
                    for to in to.iter().filter_map(mac).map(Some) {
                        cuts.insert(Cut { from, to });
                        if *direction == Direction::Both {
                            cuts.insert(Cut { from: to, to: from });
                        }
                    }
                }
            }
            Effect::Isolate { domain } => {
                if let mac @ Some(_) = mac(domain) {
                    let (from, to) = (mac, None);
                    cuts.extend([Cut { from, to }, Cut { from: to, to: from }]);
                }
            }
            _ => {}
        }
        cuts
    }
}

/// In the words of the command that injects it.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.word())?;
        match self {
            Effect::Partition {
                from,
                to,
                direction,
            } => {
                write!(f, "{} / {}", list(from), list(to))?;
                match direction {
                    Direction::Both => Ok(()),
                    Direction::OneWay => f.write_str(" --one-way"),
                }
            }
            Effect::Link { domain } => write!(f, "{domain} --down"),
            Effect::Isolate { domain } | Effect::Pause { domain } | Effect::Kill { domain } => {
                write!(f, "{domain}")
            }
            Effect::Memory { domain, to } => write!(f, "{domain} --to {to}"),
        }
    }
}

fn list(names: &BTreeSet<Name>) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(",")
}
