//! What the user asked for beside the topology: power states of single domains, and active faults.
//!
//! `plan` and `status` respect all of it. `up` starts what the user stopped, and leaves faults alone. `down` clears
//! everything. Owns the values and the rules; the file is the state directory's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::{Effect, Fault};
use crate::spec::{Name, Spec};

/// The version of the record's format.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    version: Version,
    /// Domains that should not run, and how.
    #[serde(default)]
    pub power: BTreeMap<Name, PowerIntent>,
    /// Active faults by their id.
    #[serde(default)]
    pub faults: BTreeMap<Name, Fault>,
}

/// Only [`VERSION`] is read: a record of a later pspd is refused rather than misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Version;

impl TryFrom<u32> for Version {
    type Error = String;
    fn try_from(number: u32) -> Result<Version, String> {
        if number == VERSION {
            Ok(Version)
        } else {
            Err(format!(
                "version {number} is not supported, only version {VERSION}"
            ))
        }
    }
}

impl From<Version> for u32 {
    fn from(_: Version) -> u32 {
        VERSION
    }
}

/// The power state that the user chose for a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerIntent {
    Stopped,
    Paused,
    Saved,
}

impl PowerIntent {
    pub fn word(self) -> &'static str {
        match self {
            PowerIntent::Stopped => "stopped",
            PowerIntent::Paused => "paused",
            PowerIntent::Saved => "saved",
        }
    }
}

impl Default for Intent {
    fn default() -> Intent {
        Intent {
            version: Version,
            power: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }
}

impl Intent {
    pub fn is_empty(&self) -> bool {
        self.power.is_empty() && self.faults.is_empty()
    }

    /// What is left of it for an `up` of this spec: faults of domains that the spec still has.
    pub fn for_up(&self, spec: &Spec) -> Intent {
        let faults = self.faults.iter().filter_map(|(id, fault)| {
            let effect = fault.effect.clone().within(spec)?;
            let fault = Fault {
                effect,
                ..fault.clone()
            };
            Some((id.clone(), fault))
        });
        Intent {
            faults: faults.collect(),
            ..Intent::default()
        }
    }

    /// It without the faults whose time is over.
    pub fn at(&self, now: u64) -> Intent {
        let mut intent = self.clone();
        intent.faults.retain(|_, fault| !fault.is_over(now));
        intent
    }

    /// The first id that no fault has yet.
    pub fn free_id(&self, effect: &Effect) -> Name {
        let ids = (1u32..).map(|number| format!("{}-{number}", effect.word()));
        ids.filter_map(|id| Name::new(&id).ok())
            .find(|id| !self.faults.contains_key(id))
            .expect("fewer faults than numbers")
    }

    /// Whether the domain's power is left as it is.
    pub fn holds_power(&self, name: &Name) -> bool {
        self.power.contains_key(name) || self.fault_of_power(name).is_some()
    }

    /// The id of a fault that holds the domain's power.
    pub fn fault_of_power(&self, name: &Name) -> Option<&Name> {
        let mut faults = self.faults.iter();
        let (id, _) = faults.find(|(_, fault)| {
            let of_power = matches!(
                fault.effect,
                Effect::Pause { .. } | Effect::Kill { .. } | Effect::Crash { .. }
            );
            of_power && fault.effect.domains().contains(name)
        })?;
        Some(id)
    }

    /// Whether the domain's memory is left as it is.
    pub fn holds_memory(&self, name: &Name) -> bool {
        self.has_fault(name, |effect| matches!(effect, Effect::Memory { .. }))
    }

    /// Whether a service that is not SERVING is expected here: its domain is held or has a fault.
    pub fn disturbs(&self, name: &Name) -> bool {
        self.holds_power(name) || self.has_fault(name, |_| true)
    }

    fn has_fault(&self, name: &Name, of: impl Fn(&Effect) -> bool) -> bool {
        let mut faults = self.faults.values();
        faults.any(|fault| of(&fault.effect) && fault.effect.domains().contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let text = r#"{"version":1,"power":{"web":"stopped"},"faults":{"link-1":{"effect":{"kind":"link","domain":"web"},"since":7,"until":null}}}"#;
        let intent: Intent = serde_json::from_str(text).unwrap();
        let web = Name::new("web").unwrap();
        assert!(intent.holds_power(&web) && intent.disturbs(&web) && !intent.holds_memory(&web));
        assert_eq!(serde_json::to_string(&intent).unwrap(), text);
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let error = serde_json::from_str::<Intent>(r#"{"version":2}"#).unwrap_err();
        assert!(
            error.to_string().contains("version 2 is not supported"),
            "{error}"
        );
    }
}
