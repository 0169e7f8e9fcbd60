//! Decides: (Spec, Observed) to an ordered graph of steps with final values and a reason each.
//!
//! Pure and deterministic: no clock, file, socket or environment. Nothing else in pspd decides what to do.

mod digest;
mod domain;
mod down;
mod error;
mod step;
mod up;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use crate::observe::Observed;
use crate::spec::Spec;

pub(crate) use domain::volume_file;
pub use error::PlanError;
pub use step::{Action, Plan, Step};
pub(crate) use up::in_dependency_order;

/// Plans what makes `spec` true on the observed host.
pub fn up(spec: &Spec, observed: &Observed) -> Result<Plan, PlanError> {
    up::plan(spec, observed)
}

/// Plans the same for nothing: all that the deployment owns goes, data volumes only where `volumes` is set.
pub fn down(spec: &Spec, observed: &Observed, volumes: bool) -> Plan {
    down::plan(spec, observed, volumes)
}
