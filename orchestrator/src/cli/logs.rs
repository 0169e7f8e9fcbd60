//! `pspd logs`: the services' logs, merged by time.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::context::{self, Context};
use super::exit::Exit;
use crate::event::Scope;
use crate::guest::{Guest, LogLine};
use crate::spec::{Name, Spec};

/// For a guest that runs; one that boots is `up`'s to wait for.
const REACH: Duration = Duration::from_secs(15);
/// While following, lines wait so long for earlier ones of other guests.
const SETTLE: Duration = Duration::from_millis(400);

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd logs web-server -n 50 -f")]
pub struct Args {
    /// A domain; all that have a service without it
    name: Option<String>,
    /// Go on with what is logged, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many lines of each service to begin with
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 200)]
    lines: usize,
}

/// A line, whose it is, and when it came.
struct Arrived {
    domain: Name,
    line: LogLine,
    at: Instant,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let names: Vec<Name> = match &args.name {
        Some(name) => vec![context::domain(&spec, name)?],
        None => spec
            .domains
            .values()
            .filter(|domain| domain.service.is_some())
            .map(|domain| domain.name.clone())
            .collect(),
    };
    let width = names
        .iter()
        .map(|name| name.as_str().len())
        .max()
        .unwrap_or(0);
    let (sender, receiver) = channel();
    let mut readers = Vec::new();
    for name in names {
        let guest = connect(context, &spec, &name)?;
        let sender: Sender<Arrived> = sender.clone();
        readers.push(std::thread::spawn(move || {
            guest.logs(&name, args.lines, args.follow, |line| {
                sender
                    .send(Arrived {
                        domain: name.clone(),
                        line,
                        at: Instant::now(),
                    })
                    .is_ok()
            })
        }));
    }
    drop(sender);
    let mut waiting: Vec<Arrived> = Vec::new();
    loop {
        let ended = match receiver.recv_timeout(SETTLE) {
            Ok(arrived) => {
                waiting.push(arrived);
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if ended || (args.follow && waiting.iter().any(|one| one.at.elapsed() >= SETTLE)) {
            print(&mut waiting, width)?;
        }
        if ended {
            break;
        }
    }
    for reader in readers {
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("a log's reader panicked"))??;
    }
    Ok(Exit::Done)
}

fn connect(context: &Context, spec: &Spec, name: &Name) -> anyhow::Result<Guest> {
    let (reach, identity) = (context.reach(spec)?, context.identity(spec)?);
    Ok(Guest::connect(
        &reach,
        spec,
        name,
        &identity,
        REACH,
        &Scope::ignored(),
        &CancellationToken::new(),
    )?)
}

fn print(waiting: &mut Vec<Arrived>, width: usize) -> anyhow::Result<()> {
    waiting.sort_by(|a, b| a.line.seconds.total_cmp(&b.line.seconds));
    let mut out = std::io::stdout().lock();
    for Arrived { domain, line, .. } in waiting.drain(..) {
        let time = jiff::Timestamp::from_microsecond((line.seconds * 1e6) as i64)?;
        writeln!(out, "{time:.3} {domain:width$} {}", line.message)?;
    }
    Ok(out.flush()?)
}
