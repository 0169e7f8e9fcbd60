//! `pspd service`: the systemd unit that starts the deployment with this host.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use pspd_model::hint::Hinted;

use super::context::Context;
use super::exit::Exit;
use crate::systemd::{Manager, Unit};
use crate::terminal;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd service install")]
pub(super) struct Args {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(clap::Subcommand)]
enum ServiceCommand {
    /// Start the deployment with this host, and save its memory when the host stops
    ///
    /// Writes and enables a systemd unit: of the system for root, else of your own manager. It starts what the last `up`
    /// recorded.
    #[command(after_help = "Examples:\n  pspd service install\n  pspd service install --print")]
    Install {
        /// Print the unit instead of installing it
        #[arg(long)]
        print: bool,
    },
    /// Remove the unit; the deployment keeps running
    #[command(after_help = "Example:\n  pspd service uninstall")]
    Uninstall,
    /// Show whether the unit is installed, enabled and active
    #[command(after_help = "Example:\n  pspd service status")]
    Status,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = match &args.command {
        ServiceCommand::Install { .. } => context.existing_spec()?,
        // Its unit may outlive it.
        _ => context.deployed_spec()?,
    };
    let program = std::env::current_exe().context("failed to find the program's own path")?;
    ensure!(
        !program.to_string_lossy().contains(['"', '\'', '\\', '$']),
        Hinted::new(
            format!(
                "systemd cannot run a program whose path has quotes, `$` or backslashes, and pspd is `{}`",
                program.display()
            ),
            "Move it to another folder",
        )
    );
    let unit = Unit::new(
        Manager::of_this_user(),
        &program,
        &context.paths,
        &spec.name,
        &spec.connection,
    );
    match args.command {
        ServiceCommand::Install { print: true } => {
            write!(terminal::out(), "{}", unit.text())?;
            Ok(Exit::Done)
        }
        ServiceCommand::Install { print: false } => install(&unit),
        ServiceCommand::Uninstall => uninstall(&unit),
        ServiceCommand::Status => status(&unit),
    }
}

fn install(unit: &Unit) -> anyhow::Result<Exit> {
    let (path, command) = (unit.path()?, unit.manager().command());
    let enabled = unit.install()?;
    let mut out = terminal::out();
    if enabled {
        writeln!(out, "installed and enabled `{}`", path.display())?;
        writeln!(
            out,
            "`{command} restart {}` moves a running deployment into it, by its saved memory",
            unit.name()
        )?;
    } else {
        writeln!(
            out,
            "installed `{}`; systemd does not answer here. Run `{command} enable {}` when it runs",
            path.display(),
            unit.name()
        )?;
    }
    if unit.manager() == Manager::User && !lingers() {
        writeln!(
            out,
            "your units start when you log in; after `loginctl enable-linger`, with the host"
        )?;
    }
    Ok(Exit::Done)
}

fn uninstall(unit: &Unit) -> anyhow::Result<Exit> {
    let path = unit.path()?;
    if unit.installed()?.is_none() {
        writeln!(
            terminal::out(),
            "`{}` is not installed; nothing to do",
            path.display()
        )?;
        return Ok(Exit::Done);
    }
    unit.uninstall()?;
    writeln!(terminal::out(), "removed `{}`", path.display())?;
    Ok(Exit::Done)
}

fn status(unit: &Unit) -> anyhow::Result<Exit> {
    let path = unit.path()?;
    let mut out = terminal::out();
    let Some(installed) = unit.installed()? else {
        writeln!(out, "`{}` is not installed", path.display())?;
        return Ok(Exit::Differs);
    };
    let state = unit.state();
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "not known".into());
    writeln!(out, "unit     {}", path.display())?;
    writeln!(out, "enabled  {}", word(&state.enabled))?;
    writeln!(out, "active   {}", word(&state.active))?;
    if state.enabled.is_none() {
        writeln!(out, "systemd does not answer here")?;
    }
    if installed != unit.text() {
        writeln!(
            out,
            "the file differs from what this pspd writes; `pspd service install` replaces it"
        )?;
        return Ok(Exit::Differs);
    }
    Ok(match state.enabled.as_deref() {
        Some("enabled") => Exit::Done,
        _ => Exit::Differs,
    })
}

/// Whether this user's manager starts with the host.
fn lingers() -> bool {
    let name = std::env::var("USER").unwrap_or_default();
    !name.is_empty() && Path::new("/var/lib/systemd/linger").join(name).exists()
}
