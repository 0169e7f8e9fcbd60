//! `pspd console`: connects the terminal to a domain's serial console, until Ctrl-].

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use pspd_model::hint::Hinted;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::completions;
use super::context::{self, Context};
use super::exit::Exit;
use crate::libvirt::Console;

/// Ctrl-], as with virsh and telnet.
const LEAVE: u8 = 0x1d;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd console web-server")]
pub(super) struct Args {
    /// The domain
    #[arg(add = completions::domains())]
    pub(super) name: String,
    /// Disconnect another session from the console, if there is one
    #[arg(long)]
    force: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let name = context::domain(&spec, &args.name)?;
    let connection = context.connection(&spec)?;
    let domain = connection
        .domain(&spec.name, name.as_str())?
        .ok_or_else(|| {
            let message = format!("domain `{name}` is not defined");
            Hinted::new(message, "Run `pspd up` to define it")
        })?;
    let console = domain.console(args.force)?;
    let raw = RawTerminal::enter()?;
    if raw.is_some() {
        write!(io::stderr(), "connected to {name}; leave with Ctrl-]\r\n")?;
    }
    pump(console)?;
    drop(raw);
    writeln!(io::stderr())?;
    Ok(Exit::Done)
}

/// Copies bytes in both directions until the user leaves or the console closes.
fn pump(console: Console) -> anyhow::Result<()> {
    let Console {
        mut reader,
        mut writer,
    } = console;
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            let typed = &buffer[..count];
            let leave = typed.iter().position(|byte| *byte == LEAVE);
            if writer.write_all(&typed[..leave.unwrap_or(count)]).is_err() || leave.is_some() {
                break;
            }
        }
        writer.close();
    });
    let mut out = io::stdout();
    let mut buffer = [0; 4096];
    loop {
        let count = reader
            .read(&mut buffer)
            .context("failed to read the console")?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count])?;
        out.flush()?;
    }
}

/// The terminal without line editing and signals. Dropping it restores the previous mode.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> anyhow::Result<Option<RawTerminal>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).context("failed to read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)
            .context("failed to set the terminal's mode")?;
        Ok(Some(RawTerminal(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A closed terminal needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
