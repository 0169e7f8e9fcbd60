//! `pspd man`: writes the manual pages, one for each command. For packages.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::exit::Exit;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The directory to write to
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let context = || format!("failed to write to `{}`", args.dir.display());
    fs::create_dir_all(&args.dir).with_context(context)?;
    clap_mangen::generate_to(super::Cli::command(), &args.dir).with_context(context)?;
    Ok(Exit::Done)
}
