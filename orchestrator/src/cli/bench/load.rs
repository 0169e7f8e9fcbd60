//! `pspd bench load`: puts load on one service of the deployment and measures its answers.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pspd_model::experiment::rate;
use pspd_model::hint::Hinted;
use pspd_model::spec::{DomainSpec, HealthCheck, Name, Spec};
use tokio_util::sync::CancellationToken;

use super::{make_writable, write_results};
use crate::bench::load::{self, Client, Counts, Line, Load, Results, Schedule};
use crate::cli::context::{self, Context, block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::fault::duration;
use crate::cli::up::positive;
use crate::reflection::Target;
use crate::report::{Meter, Style};
use crate::terminal;

/// Calls of gRPC share connections.
pub(in crate::cli) const GRPC_CONNECTIONS: usize = 4;
/// An HTTP/1.1 connection has one request at a time.
pub(in crate::cli) const HTTP_CONNECTIONS: usize = 64;

/// Of users or connections: more than a process can open.
const MOST: usize = 20_000;

#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true),
    after_help = "Examples:\n  \
    pspd bench load --target database-server --call Read --data reads.jsonl --rate 200/s --for 30s\n  \
    pspd bench load --target web-server --http /api/v1/collections --users 64 --out load\n\n\
    Each line of --data is the JSON of one message, such as {\"id\": \"doc-{{ n }}\"}; calls take the lines in turn. \
    Placeholders: {{ n }} is the number of the call, {{ random }} a whole number up to 2147483647, {{ uuid }} a random UUID."
)]
pub(super) struct Args {
    /// The domain whose service is called
    #[arg(long, value_name = "DOMAIN")]
    target: String,
    /// Call this gRPC method: `Method`, or `package.Service/Method`
    #[arg(long, value_name = "METHOD", group = "what")]
    call: Option<String>,
    /// Request this path by HTTP/1.1: GET, or POST with --data. It can have placeholders
    #[arg(long, value_name = "PATH", group = "what")]
    http: Option<String>,
    /// The port in the guest for --http, if the domain publishes none or several
    #[arg(long, value_name = "PORT", requires = "http")]
    port: Option<u16>,
    /// Send calls at this rate, without waiting for responses: `200/s`, `30/min` or `30/h`
    #[arg(long, value_name = "RATE", default_value = "100/s", value_parser = rate, conflicts_with = "users")]
    rate: f64,
    /// Instead of a rate, let this many users call, each of them when its last call is answered
    #[arg(long, value_name = "COUNT", value_parser = count)]
    users: Option<usize>,
    /// The time that is measured
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    time: Duration,
    /// Send the same load for this time before, without measuring; 0s for none
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration_or_zero)]
    warm_up: Duration,
    /// JSON lines with the payloads, `-` for stdin; without it, the message is empty
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The number of connections. gRPC: 4, with up to 256 calls in flight on each. HTTP: 64, or one for each user
    #[arg(long, value_name = "COUNT", value_parser = count)]
    connections: Option<usize>,
    /// The time after which a call counts as not answered
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    time_limit: Duration,
    /// Also write load.json and load.html, with charts, to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the results as JSON on stdout instead of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let domain = context::domain(&spec, &args.target)?;
    let lines = match &args.data {
        None => Vec::new(),
        Some(path) => payload(path)?,
    };
    let call = Call::of(args, lines)?;
    let target = target(context, &spec, &domain, args, &call)?;
    if let Some(folder) = &args.out {
        make_writable(folder)?;
    }
    let load = Load {
        schedule: match args.users {
            Some(users) => Schedule::Closed { users },
            None => Schedule::Open { rate: args.rate },
        },
        warm_up: args.warm_up,
        time: args.time,
        limit: args.time_limit,
    };
    let connections = args
        .connections
        .unwrap_or_else(|| call.connections(args.users));
    let (about, what) = (format!("{domain} ({})", target.address()), call.to_string());
    let measured = block_on(async {
        let cancel = cancelled_by_signals()?;
        measured(load, target, call, connections, &cancel).await
    })?;
    let results = Results::new(about, what, connections, &load, &measured);
    show(&results, args)
}

fn show(results: &Results, args: &Args) -> anyhow::Result<Exit> {
    let json = serde_json::to_string_pretty(results)?;
    if let Some(folder) = &args.out {
        let page = load::page(results);
        write_results(folder, &[("load.json", &json), ("load.html", &page)])?;
    }
    match args.json {
        true => writeln!(terminal::out(), "{json}")?,
        false => write!(terminal::out(), "{}", load::table(results))?,
    }
    if results.succeeded == 0 {
        writeln!(terminal::err(), "no call succeeded")?;
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// The load has a thread of its own, on which nothing else takes time.
async fn measured(
    load: Load,
    target: Target,
    call: Call,
    connections: usize,
    cancel: &CancellationToken,
) -> anyhow::Result<load::Measured> {
    let counts = Arc::new(Counts::default());
    let (shown, token) = (counts.clone(), cancel.clone());
    let (ready, started) = tokio::sync::oneshot::channel();
    let mut running = tokio::task::spawn_blocking(move || {
        block_on(async {
            let prepared = async {
                let client = call.client(&target, connections).await?;
                client.first(load.limit).await.map(|()| client)
            };
            let client = tokio::select! {
                client = prepared => client?,
                () = token.cancelled() => bail!("interrupted before the load began"),
            };
            // The receiver is dropped where nobody waits for it.
            let _ = ready.send(());
            Ok(load::run(&load, client, counts, &token).await?)
        })
    });
    if started.await.is_err() {
        return running.await?;
    }
    let mut meter = Meter::start(Style::for_stderr(), load.warm_up + load.time);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = tokio::time::sleep(Meter::TICK) => {
                let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
                meter.show(format_args!("{} calls, {} failed", count(&shown.ended), count(&shown.failed)));
            }
        }
    };
    meter.clear();
    ended?
}

/// What is sent.
enum Call {
    Grpc {
        method: String,
        lines: Vec<Line>,
    },
    Http {
        path: String,
        line: Line,
        bodies: Vec<Line>,
    },
}

impl Call {
    fn of(args: &Args, lines: Vec<Line>) -> anyhow::Result<Call> {
        if let Some(method) = &args.call {
            let lines = match lines.is_empty() {
                true => vec![Line::parse("the empty message", "{}")?],
                false => lines,
            };
            let method = method.clone();
            return Ok(Call::Grpc { method, lines });
        }
        let path = args.http.clone().unwrap_or_default();
        ensure!(
            path.starts_with('/'),
            Hinted::new(
                format!("`--http {path}` does not begin with `/`"),
                "Pass a path, such as `/api/v1/collections`; the load goes to the domain of `--target`",
            )
        );
        let line = Line::parse("`--http`", &path)?;
        let bodies = lines;
        Ok(Call::Http { path, line, bodies })
    }

    fn connections(&self, users: Option<usize>) -> usize {
        match self {
            Call::Grpc { .. } => {
                users.map_or(GRPC_CONNECTIONS, |users| users.min(GRPC_CONNECTIONS))
            }
            Call::Http { .. } => users.unwrap_or(HTTP_CONNECTIONS),
        }
    }

    async fn client(self, target: &Target, connections: usize) -> anyhow::Result<Client> {
        match self {
            Call::Grpc { method, lines } => {
                Client::grpc(target, &method, &lines, connections).await
            }
            Call::Http { line, bodies, .. } => {
                Client::http(target, line, bodies, connections).await
            }
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Call::Grpc { method, .. } => write!(f, "{method}"),
            Call::Http { path, bodies, .. } if bodies.is_empty() => write!(f, "GET {path}"),
            Call::Http { path, .. } => write!(f, "POST {path}"),
        }
    }
}

/// The address is always a guest's of the deployment.
fn target(
    context: &Context,
    spec: &Spec,
    name: &Name,
    args: &Args,
    call: &Call,
) -> anyhow::Result<Target> {
    let domain = &spec.domains[name];
    match call {
        Call::Grpc { .. } => {
            let identity = context.identity(spec)?;
            Target::service(context.reach(spec)?, spec, name, &identity)
        }
        Call::Http { .. } => {
            let port = http_port(domain, args.port)?;
            let address = SocketAddr::from((domain.address, port));
            Ok(Target::plain(context.reach(spec)?, address))
        }
    }
}

/// The port that is given, or the only one that the domain publishes, or that of a service without gRPC.
pub(in crate::cli) fn http_port(domain: &DomainSpec, given: Option<u16>) -> anyhow::Result<u16> {
    if let Some(port) = given {
        return Ok(port);
    }
    let mut ports: Vec<u16> = domain.publish.iter().map(|one| one.guest_port).collect();
    if let Some(service) = &domain.service
        && service.health == HealthCheck::Tcp
    {
        ports.push(service.port);
    }
    ports.sort_unstable();
    ports.dedup();
    match ports[..] {
        [port] => Ok(port),
        [] => bail!(Hinted::new(
            format!("domain `{}` publishes no port", domain.name),
            "Pass the port in the guest with `--port`",
        )),
        _ => bail!(Hinted::new(
            format!("domain `{}` has several ports: {ports:?}", domain.name),
            "Pass one with `--port`",
        )),
    }
}

pub(in crate::cli) fn payload(path: &Path) -> anyhow::Result<Vec<Line>> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("failed to read the payloads from stdin")?;
        return load::lines("stdin", &text);
    }
    let shown = format!("`{}`", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {shown}"))?;
    load::lines(&shown, &text)
}

fn count(text: &str) -> Result<usize, String> {
    match positive(text)? {
        count if count > MOST => Err(format!("must be at most {MOST}")),
        count => Ok(count),
    }
}

fn duration_or_zero(text: &str) -> anyhow::Result<Duration> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_calls_by_time() {
        for (text, expected) in [
            ("200/s", 200.0),
            ("0.5", 0.5),
            ("30/min", 0.5),
            ("36 / h", 0.01),
        ] {
            assert!((rate(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        for text in [
            "", "0/s", "-1/s", "nan", "inf", "1e9/s", "1e-300", "5/d", "5/s/s", "many",
        ] {
            let error = rate(text).unwrap_err();
            assert!(error.contains(" rate"), "{text}: {error}");
        }
    }
}
