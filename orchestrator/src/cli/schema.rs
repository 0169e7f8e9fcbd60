//! `pspd schema`: prints the JSON Schema that editors use to complete and check a topology.

use std::io::Write as _;

use pspd_model::topology;

use super::exit::Exit;

pub(super) fn run() -> anyhow::Result<Exit> {
    writeln!(crate::terminal::out(), "{}", topology::schema().trim_end())?;
    Ok(Exit::Done)
}
