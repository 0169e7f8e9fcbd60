//! `pspd ssh`: opens a shell or runs a command in a domain, with the system's `ssh`.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use pspd_model::hint::Hint as _;
use pspd_model::spec::{Name, SSH_PORT, Spec};

use super::completions;
use super::context::{self, Context};
use super::exit::Exit;
use crate::guest::{openssh_options, shell_word};
use crate::reach::Reach;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd ssh web-server -- journalctl -u web-server -n 20")]
pub(super) struct Args {
    /// The domain
    #[arg(add = completions::domains())]
    pub(super) name: String,
    /// Pass standard input to the command even if it is not a terminal
    #[arg(short = 'i', long)]
    stdin: bool,
    /// A command to run instead of a shell. One argument is a line for the guest's shell; several are passed as they are
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    /// Whether it takes standard input: a script that calls this command may read its own.
    pub(super) fn reads(&self) -> bool {
        self.command.is_empty() || self.stdin || std::io::stdin().is_terminal()
    }
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let name = context::domain(&spec, &args.name)?;
    let mut ssh = to_domain(context, &spec, &name, "ssh")?;
    if !args.reads() {
        ssh.arg("-n");
    }
    ssh.arg(spec.domains[&name].address.to_string());
    let error = ssh.args(remote(args.command)).exec();
    let failed = Err(error).context("failed to run `ssh`");
    Ok(failed.hint("Install openssh-client")?)
}

/// `ssh` or `scp` with the options for a domain. It runs in the folder of the deployment's keys.
pub(super) fn to_domain(
    context: &Context,
    spec: &Spec,
    name: &Name,
    program: &str,
) -> anyhow::Result<Command> {
    let identity = context.identity(spec)?;
    let proxy = match context.reach(spec)? {
        Reach::Direct => None,
        Reach::Lab(_) => Some(context.dial_command(
            spec,
            SocketAddr::from((spec.domains[name].address, SSH_PORT)),
        )?),
    };
    let home = context.paths.deployment(&spec.name);
    let options = openssh_options(&home, spec, name, &identity, proxy)?;
    let mut command = Command::new(program);
    command.current_dir(home.keys()).args(options);
    Ok(command)
}

/// The command for the guest's shell, which splits what it gets: several arguments are quoted, so that it does not.
fn remote(command: Vec<String>) -> Vec<String> {
    match command.as_slice() {
        [] | [_] => command,
        _ => command
            .iter()
            .map(|word| shell_word(word).into_owned())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_arguments_reach_the_command_as_they_are() {
        for (command, expected) in [
            (vec![], vec![]),
            (vec!["uptime; ls"], vec!["uptime; ls"]),
            (vec!["sh", "-c", "echo a b"], vec!["sh", "-c", "'echo a b'"]),
            (
                vec!["echo", "", "it's", "$HOME"],
                vec!["echo", "''", r"'it'\''s'", "'$HOME'"],
            ),
        ] {
            let command = command.into_iter().map(str::to_owned).collect();
            assert_eq!(remote(command), expected);
        }
    }
}
