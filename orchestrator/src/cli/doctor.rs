//! `pspd doctor`: checks the prerequisites of this host, and suggests fixes.

use std::io::Write as _;

use serde::Serialize;

use super::context::Context;
use super::exit::Exit;
use crate::doctor::{self, Outcome};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pspd doctor\n  pspd doctor --json")]
pub(super) struct Args {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ready: bool,
    checks: Vec<doctor::Check>,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let checks = doctor::examine(&context.paths, &context.file);
    let ready = !checks
        .iter()
        .any(|check| matches!(check.outcome, Outcome::Missing { .. }));
    let mut out = crate::terminal::out();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &Report { ready, checks })?;
        writeln!(out)?;
    } else {
        for check in &checks {
            writeln!(out, "{check}")?;
        }
        if let Some(command) = doctor::install(&checks) {
            writeln!(out, "to install all that is missing: {command}")?;
        }
        writeln!(
            out,
            "{}",
            if ready {
                "ready"
            } else {
                "not ready: see the lines marked `missing`"
            }
        )?;
    }
    Ok(if ready { Exit::Done } else { Exit::Unprepared })
}
