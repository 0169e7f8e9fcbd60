//! `pspd logs`: gathers the logs of services to the host and prints them merged by time, or those of one trace.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pspd_model::spec::{Name, Spec};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::context::{self, Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::firmware_log;
use crate::event::Scope;
use crate::guest::{Guest, SSH};
use crate::identity::Identity;
use crate::reach::Reach;
use crate::report;
use crate::state::LogLine;
use crate::terminal::Output;

/// The deadline for a guest's network to accept a connection. Only `up` waits for booting guests.
const ACCEPT: Duration = Duration::from_secs(2);
/// The deadline for SSH to a guest that accepts connections: it may be emulated and busy.
const REACH: Duration = Duration::from_secs(15);
/// How soon a guest that ended is looked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// While following, a line is delayed this long, so that earlier lines of other guests are printed first.
const SETTLE: Duration = Duration::from_millis(400);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd logs web-server -n 50 -f\n  pspd logs --trace 4bf92f3577b34da6a3ce929d0e0e4736\n\nLogs are gathered to the host by this command, and before a guest stops."
)]
pub(super) struct Args {
    /// A domain [default: all domains with a service]
    name: Option<String>,
    /// Show the firmware's log since the last start instead of the service's log
    #[arg(long, conflicts_with_all = ["follow", "lines"])]
    firmware: bool,
    /// Keep following new log lines until Ctrl-C
    #[arg(short, long, conflicts_with = "trace")]
    follow: bool,
    /// The number of existing lines to print for each service
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 200)]
    lines: usize,
    /// Print lines as they are; otherwise what a terminal would obey is escaped, such as `\\u001b`
    #[arg(long)]
    raw: bool,
    /// Show only the request with this trace id, through all services in the order of its calls
    #[arg(long, value_name = "ID", value_parser = trace_id)]
    trace: Option<String>,
}

fn trace_id(text: &str) -> Result<String, String> {
    let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a trace id has 32 hexadecimal digits; errors and log lines contain it".into())
    }
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    if !args.follow {
        return show(context, &args, &CancellationToken::new());
    }
    // Ctrl-C is how following ends well.
    std::thread::scope(|threads| {
        block_on(async {
            let cancel = cancelled_by_signals()?;
            let (sender, ended) = oneshot::channel();
            // The receiver outlives the thread.
            threads.spawn(move || _ = sender.send(show(context, &args, &cancel)));
            ended.await.context("the thread that reads logs panicked")?
        })
    })
}

fn show(context: &Context, args: &Args, cancel: &CancellationToken) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let output = if args.raw {
        Output::Raw
    } else {
        Output::Escaped
    };
    if args.firmware {
        return firmware_log::show(context, &spec, args.name.as_deref(), output);
    }
    let home = context.paths.deployment(&spec.name);
    let names: Vec<Name> = match &args.name {
        // The log of a domain that was removed is kept.
        Some(name) => vec![match Name::new(name) {
            Ok(name) if home.logbook(&name).exists() => name,
            _ => context::domain(&spec, name)?,
        }],
        None => spec
            .domains
            .values()
            .filter(|domain| domain.service.is_some())
            .map(|domain| domain.name.clone())
            .collect(),
    };
    let width = names.iter().map(|name| name.as_str().len()).max();
    let width = width.unwrap_or(0);
    let gathered = gather(context, &spec, &names, cancel)?;
    let mut kept = Vec::new();
    for name in &names {
        let mut lines = Vec::new();
        home.logbook(name)
            .read(|line| lines.push((name.clone(), line)))?;
        if args.trace.is_none() {
            lines.drain(..lines.len().saturating_sub(args.lines));
        }
        kept.append(&mut lines);
    }
    if kept.is_empty() && gathered.iter().all(Option::is_none) {
        // Reports a lab that is not running.
        context.reach(&spec)?;
    }
    if let Some(id) = &args.trace {
        let traced = report::trace::in_order(id, kept);
        let any = !traced.is_empty();
        let lines = traced
            .into_iter()
            .map(|traced| (traced.domain, traced.line, traced.depth));
        print(lines, width, output)?;
        anyhow::ensure!(any, "trace `{id}` is in no service's log");
        return Ok(Exit::Done);
    }
    print_by_time(kept, width, output)?;
    if args.follow {
        let followed = names.into_iter().zip(gathered);
        let followed = followed.filter(|(name, _)| spec.domains.contains_key(name));
        follow(context, &spec, followed.collect(), cancel, (width, output))?;
    }
    Ok(Exit::Done)
}

/// A guest whose log was saved, and the cursor of its last entry.
type Gathered = (Guest, Option<String>);

/// Saves the logs of all `names` in parallel. A guest that does not answer is reported and skipped: its earlier lines
/// are already on the host.
fn gather(
    context: &Context,
    spec: &Spec,
    names: &[Name],
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<Option<Gathered>>> {
    let Some(reach) = context.host(spec)?.reach(spec) else {
        return Ok(names.iter().map(|_| None).collect());
    };
    let home = context.paths.deployment(&spec.name);
    let connection = context.connection(spec)?;
    let running: Vec<String> = connection
        .domains()?
        .into_iter()
        .filter(|domain| domain.power.has_process())
        .map(|domain| domain.name)
        .collect();
    let identity = context.identity(spec)?;
    let gather_one = |name: &Name| -> anyhow::Result<Gathered> {
        let guest = connect(&reach, spec, name, &identity, cancel)?;
        let cursor = guest.gather(name, &home.logbook(name))?;
        Ok((guest, cursor))
    };
    let gathered = std::thread::scope(|threads| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| {
                let is_running = running.iter().any(|other| other == name.as_str())
                    && spec.domains.contains_key(name);
                is_running.then(|| threads.spawn(|| gather_one(name)))
            })
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.map(|thread| thread.join()));
        results.collect::<Vec<_>>()
    });
    let mut guests = Vec::new();
    for (name, gathered) in names.iter().zip(gathered) {
        guests.push(match gathered {
            None => None,
            Some(Ok(Ok(guest))) => Some(guest),
            Some(Ok(Err(error))) => {
                writeln!(
                    crate::terminal::err(),
                    "note: the log of `{name}` may be incomplete: {error:#}"
                )?;
                None
            }
            Some(Err(_)) => anyhow::bail!("a thread that reads a log panicked"),
        });
    }
    Ok(guests)
}

/// Connects to a guest that should be running.
pub(super) fn connect(
    reach: &Reach,
    spec: &Spec,
    name: &Name,
    identity: &Identity,
    cancel: &CancellationToken,
) -> anyhow::Result<Guest> {
    // Its kernel answers at once, or nothing does: the lines that are kept are not worth a wait.
    let address = SocketAddr::from((spec.domains[name].address, SSH));
    let dialed = reach.dial_blocking(address, ACCEPT);
    dialed.with_context(|| format!("failed to connect to `{address}`"))?;
    let scope = Scope::ignored();
    Ok(Guest::connect(
        reach, spec, name, identity, REACH, &scope, cancel,
    )?)
}

/// A log line, its domain, and when it arrived.
struct Arrived {
    domain: Name,
    line: LogLine,
    at: Instant,
}

/// Prints new lines until Ctrl-C, or until the lab ends. Guests may stop and start meanwhile.
fn follow(
    context: &Context,
    spec: &Spec,
    names: Vec<(Name, Option<Gathered>)>,
    cancel: &CancellationToken,
    (width, output): (usize, Output),
) -> anyhow::Result<()> {
    let Some(reach) = context.host(spec)?.reach(spec) else {
        return Ok(());
    };
    let identity = context.identity(spec)?;
    let again = |name: &Name| {
        let scope = Scope::ignored();
        Guest::connect(&reach, spec, name, &identity, REACH, &scope, cancel)
    };
    let is_up = || matches!(context.host(spec), Ok(host) if host.reach(spec).is_some());
    std::thread::scope(|threads| {
        let (sender, receiver) = channel();
        for (name, gathered) in names {
            let sender: Sender<Arrived> = sender.clone();
            let (again, is_up) = (&again, &is_up);
            threads.spawn(move || {
                let (mut guest, cursor) = gathered.unzip();
                let mut cursor = cursor.flatten();
                while !cancel.is_cancelled() {
                    if let Some(guest) = guest.take() {
                        // It ends with the guest, which may come back.
                        let _ = guest.follow(&name, &mut cursor, |line| {
                            let (domain, at) = (name.clone(), Instant::now());
                            sender.send(Arrived { domain, line, at }).is_ok()
                        });
                    }
                    std::thread::sleep(AGAIN);
                    guest = again(&name).ok();
                    if guest.is_none() && !is_up() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let printed = print_arriving(&receiver, width, output);
        cancel.cancel();
        printed
    })
}

/// Prints lines by time, until all senders are gone.
fn print_arriving(
    receiver: &Receiver<Arrived>,
    width: usize,
    output: Output,
) -> anyhow::Result<()> {
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
        if ended || waiting.iter().any(|arrived| arrived.at.elapsed() >= SETTLE) {
            let lines = waiting
                .drain(..)
                .map(|arrived| (arrived.domain, arrived.line));
            print_by_time(lines.collect(), width, output)?;
        }
        if ended {
            return Ok(());
        }
    }
}

fn print_by_time(
    mut lines: Vec<(Name, LogLine)>,
    width: usize,
    output: Output,
) -> anyhow::Result<()> {
    lines.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
    print(
        lines.into_iter().map(|(domain, line)| (domain, line, 0)),
        width,
        output,
    )
}

fn print(
    lines: impl Iterator<Item = (Name, LogLine, usize)>,
    width: usize,
    output: Output,
) -> anyhow::Result<()> {
    let mut out = output.writer();
    for (domain, line, depth) in lines {
        let time = jiff::Timestamp::from_microsecond((line.seconds * 1e6) as i64)?;
        let indent = "  ".repeat(depth);
        writeln!(out, "{time:.3} {domain:width$} {indent}{}", line.message)?;
    }
    Ok(out.flush()?)
}
