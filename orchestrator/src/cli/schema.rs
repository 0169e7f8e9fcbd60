//! `pspd schema`: prints the JSON Schema that editors use to complete and check a topology.

use std::io::Write as _;

use super::exit::Exit;
use crate::topology;

pub fn run() -> anyhow::Result<Exit> {
    writeln!(std::io::stdout(), "{}", topology::schema().trim_end())?;
    Ok(Exit::Done)
}
