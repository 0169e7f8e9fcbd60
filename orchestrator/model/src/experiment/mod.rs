//! Parses and validates an experiment file: load, phases with steps, and what must hold. Reports all errors at once.
//!
//! The words of faults and power operations are those of their commands, which `Surroundings` checks.

mod keys;
mod resolve;
mod units;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::spec::Name;
use crate::topology::{Fault, Faults, Found, schema_of, tree};

pub use units::rate;

/// An experiment on a running deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    pub name: Name,
    /// What it shows, for the report.
    pub about: Option<String>,
    /// The snapshot that each run starts from.
    pub snapshot: Option<Name>,
    pub load: Load,
    pub phases: Vec<Phase>,
    /// How long after the end of a fault everything works again at the latest.
    pub recovery: Option<Duration>,
}

/// The load that is sent in all phases.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The domain whose service is called.
    pub target: Name,
    pub call: Call,
    pub pace: Pace,
    /// The time limit of a call.
    pub limit: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Reads and writes of this many shared documents of the database, and of new ones, each recorded.
    Documents(usize),
    /// A method with the lines of a file.
    Grpc {
        method: String,
        data: Option<PathBuf>,
    },
    /// GET of a path, or POST of the lines of a file.
    Http { path: String, data: Option<PathBuf> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Calls a second.
    Rate(f64),
    Users(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub name: String,
    /// It lasts so long, and until its steps ended.
    pub lasts: Duration,
    /// In the order in which they are due.
    pub steps: Vec<Step>,
    pub bounds: Bounds,
}

/// What must hold of the calls of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The share of failed calls at most, from 0 to 1.
    pub errors: Option<f64>,
    /// The 99th percentile of latency at most.
    pub p99: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// From the start of its phase.
    pub at: Duration,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The words of `pspd fault`, and how long it stays; without a time, until a heal or the end.
    Fault {
        words: String,
        lasts: Option<Duration>,
    },
    /// Ends the faults of this experiment.
    Heal,
    /// The words of `pspd start`, `stop`, `restart`, `pause`, `resume`, `save` or `restore`.
    Power { words: String },
    /// `pspd up` with this topology file.
    Up { file: PathBuf },
}

/// As the file has it.
impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Action::Fault { words, .. } => write!(f, "fault {words}"),
            Action::Heal => f.write_str("heal"),
            Action::Power { words } => f.write_str(words),
            Action::Up { file } => {
                let name = file.file_name().unwrap_or_default();
                write!(f, "up {}", name.to_string_lossy())
            }
        }
    }
}

/// What an experiment is validated against.
pub struct Surroundings<'a> {
    /// Paths are relative to it.
    pub folder: &'a Path,
    pub look: &'a dyn Fn(&Path) -> Found,
    /// The domains of the deployment.
    pub domains: &'a [&'a str],
    /// Checks the words of an action.
    pub check: &'a dyn Fn(&Action) -> Result<(), String>,
}

/// Validates the text of an experiment.
pub fn parse(text: &str, around: &Surroundings<'_>) -> Result<Experiment, Vec<Fault>> {
    let start = "run `pspd experiment init` to create one";
    let tree = tree::parse(text, start).map_err(|fault| vec![fault])?;
    resolve::resolve(&tree, around)
}

/// Shows the faults of an experiment's text.
pub fn faults(file: &Path, text: &str, faults: Vec<Fault>) -> Faults {
    Faults::in_text_with(&["phases", "load"], file, text, faults)
}

/// Returns the JSON Schema of an experiment.
pub fn schema() -> String {
    schema_of(&keys::EXPERIMENT, "pspd experiment")
}

/// Returns the commented file that `pspd experiment init` writes.
pub fn starter() -> &'static str {
    include_str!("starter.yaml")
}
