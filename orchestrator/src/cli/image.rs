//! `pspd image`: builds, lists and removes guest images.

use super::context::{Context, cancelled_by_signals, runtime};
use super::exit::Exit;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(clap::Subcommand)]
enum ImageCommand {
    /// Build or fetch the topology's images that are not cached
    Build {
        /// One image; all without it
        name: Option<String>,
    },
    /// Show what is cached
    List {
        #[arg(long)]
        json: bool,
    },
    /// Remove cached images that no deployment uses
    Prune,
}

pub fn run(_context: &Context, _args: Args) -> anyhow::Result<Exit> {
    let _ = (cancelled_by_signals, runtime);
    unimplemented!()
}
