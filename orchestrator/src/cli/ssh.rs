//! `pspd ssh`: opens a shell or runs a command in a domain, with the system's `ssh`.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;

use super::context::{self, Context};
use super::exit::Exit;
use crate::guest::openssh_arguments;
use crate::reach::Reach;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd ssh web-server -- journalctl -u web-server -n 20")]
pub(super) struct Args {
    /// The domain
    name: String,
    /// A command to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let name = context::domain(&spec, &args.name)?;
    let identity = context.identity(&spec)?;
    let proxy = match context.reach(&spec)? {
        Reach::Direct => None,
        Reach::Lab(_) => {
            Some(context.dial_command(&spec, SocketAddr::from((spec.domains[&name].address, 22)))?)
        }
    };
    let home = context.paths.deployment(&spec.name);
    let arguments = openssh_arguments(&home, &spec, &name, &identity, proxy)?;
    let error = Command::new("ssh")
        .args(arguments)
        .args(args.command)
        .exec();
    Err(error).context("failed to run `ssh`. Install openssh-client")
}
