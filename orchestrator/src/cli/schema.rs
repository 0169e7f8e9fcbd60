//! `pspd schema`: the JSON Schema from which editors complete a topology.

use std::io::Write as _;

use super::exit::Exit;
use crate::topology;

pub fn run() -> anyhow::Result<Exit> {
    writeln!(std::io::stdout(), "{}", topology::schema().trim_end())?;
    Ok(Exit::Done)
}
