//! `pspd completions`: prints completion scripts for shells.

use clap::CommandFactory as _;

use super::exit::Exit;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    clap_complete::generate(
        args.shell,
        &mut super::Cli::command(),
        "pspd",
        &mut crate::terminal::raw(),
    );
    Ok(Exit::Done)
}
