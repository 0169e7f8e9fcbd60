//! `pspd logs --firmware NAME`: the log of a domain's firmware since its last start.

use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, bail};
use pspd_model::spec::Spec;

use super::context::{self, Context};
use super::exit::Exit;
use crate::state::read_end;
use crate::terminal::Output;

/// What is shown of a log, in bytes: its end. The lab keeps no more.
const LONGEST: u64 = 1 << 20;

pub(super) fn show(
    context: &Context,
    spec: &Spec,
    name: &str,
    output: Output,
) -> anyhow::Result<Exit> {
    let name = context::domain(spec, name)?;
    let path = context.paths.deployment(&spec.name).firmware_log(&name);
    let bytes = match read_end(&path, LONGEST) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "`{name}` has not been started: `{}` does not exist",
                path.display()
            )
        }
        read => read.with_context(|| format!("failed to read `{}`", path.display()))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    // The beginning of a long log was freed.
    let text = text.trim_start_matches('\0');
    let mut out = output.writer();
    for line in text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
    {
        writeln!(out, "{line}")?;
    }
    if text.trim().is_empty() {
        writeln!(
            crate::terminal::err(),
            "the firmware wrote nothing to the debug port. UEFI firmware logs to the serial console: `{}`",
            context
                .paths
                .deployment(&spec.name)
                .console_log(&name)
                .display()
        )?;
    }
    Ok(out.flush().map(|()| Exit::Done)?)
}
