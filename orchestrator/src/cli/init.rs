//! `pspd init`: writes a commented starter topology.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, bail};
use pspd_model::topology;

use super::context::Context;
use super::exit::Exit;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let file = &context.file;
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(!args.force)
        .create(true)
        .truncate(args.force);
    let mut target = match options.open(file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "`{}` already exists. Pass --force to overwrite it, or --file to write another file",
                file.display()
            )
        }
        opened => opened.with_context(|| format!("failed to create `{}`", file.display()))?,
    };
    target
        .write_all(topology::starter().as_bytes())
        .with_context(|| format!("failed to write `{}`", file.display()))?;
    writeln!(
        crate::terminal::out(),
        "wrote {}. Next, set the service's binary, then run `pspd plan`",
        file.display()
    )?;
    Ok(Exit::Done)
}
