//! `pspd completions`: prints completion scripts for shells, which ask pspd itself what may stand next.

use std::ffi::OsString;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::CompletionCandidate;
use clap_complete::engine::ArgValueCandidates;
use clap_complete::env::{CompleteEnv, Shells};

use pspd_model::spec::Name;

use super::context::Context;
use super::exit::Exit;
use super::{Cli, Global};
use crate::state::Home;

/// The variable by which a script asks; its value is the shell's name.
const ASKS: &str = "PSPD_COMPLETE";
const PROGRAM: &str = "pspd";

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  . <(pspd completions bash)\n  pspd completions fish >~/.config/fish/completions/pspd.fish"
)]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let (name, shells) = (args.shell.to_string(), Shells::builtins());
    let shell = shells
        .completer(&name)
        .context("completions for this shell are not supported")?;
    shell.write_registration(ASKS, PROGRAM, PROGRAM, PROGRAM, &mut crate::terminal::raw())?;
    Ok(Exit::Done)
}

/// Answers a script, and ends. Does nothing in other runs.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKS).complete();
}

/// The domains of the deployment.
pub(super) fn domains() -> ArgValueCandidates {
    candidates(|context| {
        let spec = context.deployed_spec()?;
        Ok(spec.domains.keys().map(Name::to_string).collect())
    })
}

/// The snapshots of the deployment.
pub(super) fn snapshots() -> ArgValueCandidates {
    candidates(|context| {
        let home = context.paths.deployment(&context.deployed_spec()?.name);
        let names = home.snapshot_names()?;
        Ok(names.iter().map(Name::to_string).collect())
    })
}

/// The deployments of this host.
pub(super) fn deployments() -> ArgValueCandidates {
    candidates(|context| {
        let homes = context.paths.deployments()?;
        Ok(homes.iter().map(Home::deployment).collect())
    })
}

/// Names that depend on the options typed so far; none where they cannot be found, as nobody reads an error there.
fn candidates(names: fn(&Context) -> anyhow::Result<Vec<String>>) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let names = context().and_then(|context| names(&context));
        let names = names.unwrap_or_default().into_iter();
        names.map(CompletionCandidate::new).collect()
    })
}

/// The context of the words that the shell has so far: those after `--`.
fn context() -> anyhow::Result<Context> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    context_of(words.collect())
}

fn context_of(words: Vec<OsString>) -> anyhow::Result<Context> {
    let typed = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(words)?;
    Context::new(Global::from_arg_matches(&typed)?)
}
