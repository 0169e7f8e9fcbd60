//! `pspd completions`: prints completion scripts for shells.

use std::io::Write as _;

use clap::CommandFactory as _;

use super::exit::Exit;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "pspd", &mut script);
    crate::terminal::raw().write_all(&script)?;
    Ok(Exit::Done)
}
