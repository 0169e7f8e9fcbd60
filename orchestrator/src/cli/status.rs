//! `pspd status`: shows the current state of domains, services and addresses.

mod text;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::boot;
use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use crate::observe::status::{Status, read};

/// The time between two updates of `--watch`.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd status\n  pspd status --watch\n  pspd status --json | jq .healthy"
)]
pub(super) struct Args {
    /// Print JSON with stable fields
    #[arg(long)]
    pub(super) json: bool,
    /// Also show the stages of each domain's last boot
    #[arg(long)]
    pub(super) boot: bool,
    /// Refresh every two seconds until Ctrl-C
    #[arg(long)]
    pub(super) watch: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    block_on(async {
        if !args.watch {
            let status = read(&context.paths, &spec).await?;
            show(&status, args.json)?;
            if args.boot && !args.json {
                let home = context.paths.deployment(&spec.name);
                write!(crate::terminal::out(), "{}", boot::table(&home, &spec)?)?;
            }
            return Ok(if status.healthy {
                Exit::Done
            } else {
                Exit::Differs
            });
        }
        let cancel = cancelled_by_signals()?;
        while !cancel.is_cancelled() {
            let status = tokio::select! {
                status = read(&context.paths, &spec) => status?,
                () = cancel.cancelled() => break,
            };
            show_again(&status, args.json)?;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        Ok(Exit::Done)
    })
}

/// Shows it in the place of what was shown before.
pub(super) fn show_again(status: &Status, json: bool) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() && !json {
        // Cursor home, then clear to the end of the screen.
        write!(crate::terminal::raw(), "\x1b[H\x1b[J")?;
    }
    show(status, json)
}

pub(super) fn show(status: &Status, json: bool) -> anyhow::Result<()> {
    let mut out = crate::terminal::out();
    if json {
        writeln!(out, "{}", serde_json::to_string(status)?)?;
    } else {
        let width = crate::terminal::out_width();
        write!(out, "{}", text::render(status, width))?;
    }
    Ok(())
}
