//! `pspd room`: says what this machine has room for, to the machine that places domains.

use std::collections::BTreeSet;
use std::io::Write as _;

use pspd_model::observed::Power;
use pspd_model::schedule::Room;
use pspd_model::spec::{Name, Spec};

use super::context::Context;
use super::exit::Exit;
use crate::free_memory::free_memory;

pub(super) fn run(context: &Context, deployment: &Name) -> anyhow::Result<Exit> {
    let spec = context.paths.deployment(deployment).recorded_spec()?;
    let running = spec.map(|spec| running(context, &spec)).transpose()?;
    let room = Room {
        free: free_memory()?,
        running: running.unwrap_or_default(),
    };
    writeln!(crate::terminal::out(), "{}", serde_json::to_string(&room)?)?;
    Ok(Exit::Done)
}

/// The domains with processes, which use memory.
fn running(context: &Context, spec: &Spec) -> anyhow::Result<BTreeSet<Name>> {
    let Some(connection) = context.host(spec)?.connection else {
        return Ok(BTreeSet::new());
    };
    let mut running = BTreeSet::new();
    for name in spec.domains.keys() {
        let domain = connection.domain(&spec.name, name.as_str())?;
        let power = domain.map(|domain| domain.power()).transpose()?;
        if power.is_some_and(Power::has_process) {
            running.insert(name.clone());
        }
    }
    Ok(running)
}
