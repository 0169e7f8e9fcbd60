//! `pspd logs`: gathers the logs of services to the host and prints them merged by time, or those of one trace.

mod filter;
mod printer;
mod time;

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pspd_model::hint::Hinted;
use pspd_model::spec::{Name, SSH_PORT, Spec};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::completions;
use super::context::{self, Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::firmware_log;
use crate::event::Scope;
use crate::guest::Guest;
use crate::hint::told;
use crate::identity::Identity;
use crate::reach::Reach;
use crate::state::{LogLine, Logbook};
use crate::terminal::Output;
use filter::Filter;
pub(super) use printer::{Arrived, Printer};

/// The deadline for a guest's network to accept a connection. Only `up` waits for booting guests.
const ACCEPT: Duration = Duration::from_secs(2);
/// The deadline for SSH to a guest that accepts connections: it may be emulated and busy.
const REACH: Duration = Duration::from_secs(15);
/// How soon a guest that ended is looked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// How many of a service's lines are shown where the user does not say it; more of them with `--since`.
const TAIL: usize = 200;
const TAIL_SINCE: usize = 10_000;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd logs web-server -n 50 -f\n  pspd logs --since 10m --level warn\n  pspd logs web-server ai-server --since 05:00 --until 05:10 --grep '\"status\":\"Unavailable\"'\n  pspd logs store --raw | jq .message\n  pspd logs --trace 4bf92f3577b34da6a3ce929d0e0e4736\n\nTimes are local, by the guests' clocks. NO_COLOR turns colors off.\nLogs are gathered to the host by this command, and before a guest stops."
)]
pub(super) struct Args {
    /// Domains [default: all domains with a service]
    #[arg(value_name = "NAME", add = completions::domains())]
    pub(super) names: Vec<String>,
    /// Show the firmware's log since the last start instead of the service's log
    #[arg(long, conflicts_with_all = ["follow", "tail", "trace", "since", "until", "level", "grep"])]
    firmware: bool,
    /// Keep following new log lines until Ctrl-C
    #[arg(short, long, conflicts_with = "trace")]
    pub(super) follow: bool,
    /// The number of existing lines to print for each service, after filters [default: 200; with --since 10000]
    #[arg(short = 'n', long, visible_alias = "lines", value_name = "COUNT")]
    tail: Option<usize>,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Print only the lines, exactly as the services wrote them; otherwise what a terminal would obey is escaped, such as `\u001b`
    #[arg(long)]
    raw: bool,
    /// Show only the request with this trace id, through all services in the order of its calls
    #[arg(long, value_name = "ID", value_parser = trace_id)]
    pub(super) trace: Option<String>,
    /// Print each line as JSON, for the machine that merges those of several hosts
    #[arg(long, hide = true)]
    for_merging: bool,
}

impl Args {
    /// Whether they are about the logs that services wrote.
    pub(super) fn are_of_services(&self) -> bool {
        !self.firmware
    }

    /// The words for one of several hosts.
    pub(super) fn words(&self, names: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut words = vec!["logs".to_owned(), "--for-merging".to_owned()];
        words.extend(self.follow.then(|| "--follow".to_owned()));
        words.extend(self.tail.map(|count| format!("--tail={count}")));
        words.extend(self.trace.iter().map(|id| format!("--trace={id}")));
        words.extend(self.filter.words());
        words.extend(names);
        words
    }

    pub(super) fn printer(&self, domains: &[Name]) -> Printer {
        match (self.for_merging, self.raw) {
            (true, _) => Printer::ForMerging,
            (false, true) => Printer::Raw,
            (false, false) => Printer::for_people(domains),
        }
    }
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
    args.filter.check()?;
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
    if args.firmware {
        let output = match args.raw {
            true => Output::Raw,
            false => Output::Escaped,
        };
        let [name] = &args.names[..] else {
            anyhow::bail!(Hinted::new(
                "--firmware requires one domain",
                "Run `pspd logs --firmware NAME`",
            ));
        };
        return firmware_log::show(context, &spec, name, output);
    }
    let home = context.paths.deployment(&spec.name);
    let names = names(context, &spec, &args.names)?;
    let mut printer = args.printer(&names);
    let gathered = gather(context, &spec, &names, cancel)?;
    let mut kept = Vec::new();
    for name in &names {
        let lines = kept_lines(&home.logbook(name), name, args)?;
        kept.extend(lines.into_iter().map(|line| (name.clone(), line)));
    }
    let none = || names.iter().all(|name| !home.logbook(name).exists());
    if none() && gathered.iter().all(Option::is_none) {
        // Reports a lab that is not running.
        context.reach(&spec)?;
    }
    printer.print_kept(kept, args.trace.as_deref())?;
    if args.follow {
        let followed = names.into_iter().zip(gathered);
        let followed = followed.filter(|(name, _)| spec.domains.contains_key(name));
        follow(
            context,
            &spec,
            followed.collect(),
            cancel,
            (&args.filter, printer),
        )?;
    }
    Ok(Exit::Done)
}

/// The domains that the user named, each once, or all that have a service.
fn names(context: &Context, spec: &Spec, wanted: &[String]) -> anyhow::Result<Vec<Name>> {
    let home = context.paths.deployment(&spec.name);
    if wanted.is_empty() {
        let domains = spec.domains.values();
        let served = domains.filter(|domain| domain.service.is_some());
        return Ok(served.map(|domain| domain.name.clone()).collect());
    }
    let mut names = Vec::new();
    for name in wanted {
        let name = match Name::new(name) {
            // The log of a domain that was removed is kept.
            Ok(name) if home.logbook(&name).exists() => name,
            _ => context::domain(spec, name)?,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The last lines of a log that pass the filter; of a trace, all of its lines.
fn kept_lines(book: &Logbook, name: &Name, args: &Args) -> anyhow::Result<VecDeque<LogLine>> {
    let is_since = args.filter.since.is_some();
    let tail = args
        .tail
        .unwrap_or(if is_since { TAIL_SINCE } else { TAIL });
    let (mut lines, mut left_out) = (VecDeque::new(), false);
    book.read(|line| {
        let is_traced = |id: &String| line.message.contains(id);
        if !args.trace.as_ref().is_none_or(is_traced) || !args.filter.passes(&line) {
            return;
        }
        lines.push_back(line);
        if args.trace.is_none() && lines.len() > tail {
            lines.pop_front();
            left_out = true;
        }
    })?;
    if left_out && is_since && args.tail.is_none() {
        writeln!(
            crate::terminal::err(),
            "note: only the last {tail} lines of `{name}` are shown. `--tail COUNT` shows more"
        )?;
    }
    Ok(lines)
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
                    "note: the log of `{name}` may be incomplete: {}",
                    told(&error)
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
    let address = SocketAddr::from((spec.domains[name].address, SSH_PORT));
    let dialed = reach.dial_blocking(address, ACCEPT);
    dialed.with_context(|| format!("failed to connect to `{address}`"))?;
    let scope = Scope::ignored();
    Ok(Guest::connect(
        reach, spec, name, identity, REACH, &scope, cancel,
    )?)
}

/// Prints new lines until Ctrl-C, until the lab ends, or until the filter's last time. Guests may stop and start meanwhile.
fn follow(
    context: &Context,
    spec: &Spec,
    names: Vec<(Name, Option<Gathered>)>,
    cancel: &CancellationToken,
    (filter, mut printer): (&Filter, Printer),
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
                            if !filter.passes(&line) {
                                return true;
                            }
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
        let printed = printer.print_arriving(&receiver, filter.until);
        cancel.cancel();
        printed
    })
}
