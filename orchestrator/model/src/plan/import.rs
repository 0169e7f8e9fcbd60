//! The plan that places an archive's deployment on this host. What it becomes was decided when its manifest was checked.

use std::path::PathBuf;

use super::builder::PlanBuilder;
use super::{Action, Plan, Undo};

pub(super) fn plan(archive: PathBuf, folder: PathBuf) -> Plan {
    let mut plan = PlanBuilder::default();
    plan.add(
        Action::Place { archive, folder },
        "the deployment is imported",
    );
    plan.undo(Undo::WhenNotSuccessful);
    plan.finish()
}
