//! Faults that the user injected: what each does, on which domains, and until when.
//!
//! Owns the values and their rules; how a fault is applied is the planner's.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::harm::{DiskHarm, Offset};
use crate::shape::Shape;
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
    /// Packets between two domains are slowed, lost or reordered.
    Delay {
        from: Name,
        to: Name,
        direction: Direction,
        shape: Shape,
    },
    /// The virtual CPUs are stopped.
    Pause { domain: Name },
    /// The power was cut.
    Kill { domain: Name },
    /// The guest's kernel panicked.
    Crash { domain: Name },
    /// The domain's service was ended.
    Service { domain: Name, how: Ended },
    /// The guest has less memory than the topology says.
    Memory { domain: Name, to: Size },
    /// A disk of the domain, the system disk or a data volume, is slow or full.
    Disk {
        domain: Name,
        disk: Name,
        harm: DiskHarm,
    },
    /// The guest's clock is set off.
    Clock { domain: Name, skew: Offset },
    /// The guest's processors are burnt, in percent of each.
    Cpu { domain: Name, burn: u32 },
}

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// By SIGKILL; the guest's systemd starts it again.
    Killed,
    /// By systemd; it stays so until it is healed.
    Stopped,
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
            Effect::Delay { .. } => "delay",
            Effect::Pause { .. } => "pause",
            Effect::Kill { .. } => "kill",
            Effect::Crash { .. } => "crash",
            Effect::Service { .. } => "service",
            Effect::Memory { .. } => "memory",
            Effect::Disk { .. } => "disk",
            Effect::Clock { .. } => "clock",
            Effect::Cpu { .. } => "cpu",
        }
    }

    /// The domains that it acts on.
    pub fn domains(&self) -> BTreeSet<&Name> {
        match self {
            Effect::Partition { from, to, .. } => from.union(to).collect(),
            Effect::Delay { from, to, .. } => BTreeSet::from([from, to]),
            Effect::Isolate { domain }
            | Effect::Link { domain }
            | Effect::Pause { domain }
            | Effect::Kill { domain }
            | Effect::Crash { domain }
            | Effect::Service { domain, .. }
            | Effect::Memory { domain, .. }
            | Effect::Disk { domain, .. }
            | Effect::Clock { domain, .. }
            | Effect::Cpu { domain, .. } => BTreeSet::from([domain]),
        }
    }

    /// The hosts on which it is injected, so that it acts wherever its domains are: what passes between two domains passes the
    /// bridges of both hosts, and is shaped where it is sent.
    pub fn hosts<'a>(&self, spec: &'a Spec) -> BTreeSet<&'a Name> {
        let of = |names: &mut dyn Iterator<Item = &Name>| -> BTreeSet<&'a Name> {
            names
                .filter_map(|name| spec.get(name)?.host.as_ref())
                .collect()
        };
        match self {
            Effect::Partition { from, to, .. } => {
                let (from, to) = (of(&mut from.iter()), of(&mut to.iter()));
                if to.len() < from.len() { to } else { from }
            }
            Effect::Delay {
                from,
                direction: Direction::OneWay,
                ..
            } => of(&mut [from].into_iter()),
            _ => of(&mut self.domains().into_iter()),
        }
    }

    /// Whether nothing of it is left to be healed.
    pub fn is_momentary(&self) -> bool {
        matches!(
            self,
            Effect::Service {
                how: Ended::Killed,
                ..
            }
        )
    }

    /// What is left of it on the domains of a spec; `None` if that is nothing.
    pub fn within(mut self, spec: &Spec) -> Option<Effect> {
        let has = |name: &Name| spec.get(name).is_some();
        match &mut self {
            Effect::Partition { from, to, .. } => {
                from.retain(has);
                to.retain(has);
                (!from.is_empty() && !to.is_empty()).then_some(self)
            }
            Effect::Disk { domain, disk, .. } => {
                let domain = spec.domains.get(domain);
                let exists =
                    domain.is_some_and(|domain| domain.disks().any(|it| it == disk.as_str()));
                exists.then_some(self)
            }
            _ => {
                let whole = self.domains().into_iter().all(has);
                whole.then_some(self)
            }
        }
    }

    /// What happens to packets from one domain to another; `None` if nothing does.
    pub fn shape(&self, sender: &Name, receiver: &Name) -> Option<Shape> {
        let Effect::Delay {
            from,
            to,
            direction,
            shape,
        } = self
        else {
            return None;
        };
        let forth = (from, to) == (sender, receiver);
        let back = (from, to) == (receiver, sender) && *direction == Direction::Both;
        (forth || back).then_some(*shape)
    }

    /// What the lab's bridge must not forward, on the domains of a spec.
    pub fn cuts(&self, spec: &Spec) -> BTreeSet<Cut> {
        let mac = |name: &Name| spec.get(name).map(|domain| domain.mac);
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
                one_way(*direction, f)
            }
            Effect::Link { domain } => write!(f, "{domain} --down"),
            Effect::Delay {
                from,
                to,
                direction,
                shape,
            } => {
                write!(f, "{from} {to} {shape}")?;
                one_way(*direction, f)
            }
            Effect::Isolate { domain }
            | Effect::Pause { domain }
            | Effect::Kill { domain }
            | Effect::Crash { domain } => write!(f, "{domain}"),
            Effect::Service { domain, how } => match how {
                Ended::Killed => write!(f, "{domain} --kill"),
                Ended::Stopped => write!(f, "{domain} --stop"),
            },
            Effect::Memory { domain, to } => write!(f, "{domain} --to {to}"),
            Effect::Disk { domain, disk, harm } => write!(f, "{domain} {disk} {harm}"),
            Effect::Clock { domain, skew } => write!(f, "{domain} --skew {skew}"),
            Effect::Cpu { domain, burn } => write!(f, "{domain} --burn {burn}%"),
        }
    }
}

fn one_way(direction: Direction, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match direction {
        Direction::Both => Ok(()),
        Direction::OneWay => f.write_str(" --one-way"),
    }
}

fn list(names: &BTreeSet<Name>) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(",")
}
