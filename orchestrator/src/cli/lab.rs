//! `pspd lab`: runs programs inside the deployment's namespaces.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use anyhow::Context as _;
use pspd_lab::{Lab, keepalive};

use super::context::Context;
use super::exit::Exit;
use crate::remote::uplink;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pspd lab exec -- virsh list\n  pspd lab shell")]
pub(super) struct Args {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(clap::Subcommand)]
enum LabCommand {
    /// Run a command in the lab, such as curl, tcpdump or virsh
    #[command(after_help = "Example:\n  pspd lab exec -- virsh list")]
    Exec {
        /// The program and its arguments
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Open a shell in the lab
    #[command(after_help = "Example:\n  pspd lab shell")]
    Shell,
    /// Connect stdin and stdout to a port of a guest (for SSH's ProxyCommand)
    #[command(after_help = "Example:\n  pspd lab dial 10.77.0.10:22")]
    Dial {
        /// The guest's address and port, such as `10.77.0.10:22`
        to: SocketAddr,
    },
    /// Connect the lab's network to those of the other hosts, through stdin and stdout
    #[command(hide = true)]
    Uplink,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let lab = match args.command {
        LabCommand::Uplink => {
            let home = context.paths.deployment(&spec.name).lab();
            uplink::wait_for(|| Lab::running(&home))?
        }
        _ => context.lab(&spec)?,
    };
    match args.command {
        LabCommand::Exec { command } => Err(become_program(lab.enter(&command)?)),
        LabCommand::Shell => {
            let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
            Err(become_program(lab.enter([shell])?))
        }
        LabCommand::Dial { to } => {
            let stream = lab
                .dial(to, Duration::from_secs(10))
                .with_context(|| format!("failed to dial `{to}`"))?;
            keepalive::enable(&stream).context("failed to enable TCP keepalive")?;
            pump(stream)
        }
        LabCommand::Uplink => {
            let program = std::env::current_exe();
            let program = program.context("failed to find the path of the pspd program")?;
            Err(become_program(
                lab.enter([program.as_os_str(), "uplink".as_ref()])?,
            ))
        }
    }
}

/// Replaces this process with the program, so that signals, terminal and exit code need no forwarding.
fn become_program(mut command: std::process::Command) -> anyhow::Error {
    let error = command.exec();
    anyhow::Error::new(error).context(format!(
        "failed to run `{}`",
        command.get_program().to_string_lossy()
    ))
}

fn pump(stream: std::net::TcpStream) -> anyhow::Result<Exit> {
    let mut to_guest = stream
        .try_clone()
        .context("failed to duplicate the connection")?;
    std::thread::spawn(move || {
        // When one side closes, the other is closed, too. Neither case is an error.
        let _ = io::copy(&mut io::stdin(), &mut to_guest);
        let _ = to_guest.shutdown(std::net::Shutdown::Write);
    });
    let mut out = crate::terminal::raw().lock();
    let mut from_guest = stream;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = io::Read::read(&mut from_guest, &mut buffer)?;
        if count == 0 {
            return Ok(Exit::Done);
        }
        out.write_all(&buffer[..count])?;
        out.flush()?;
    }
}
