//! `pspd bench load` beside `h2load`: what one core can send, to the same service in turn within one run.
//!
//! Both have one thread, the same connections and the same number of calls in flight, each sent after an answer. h2load
//! checks the status of HTTP alone; pspd also that of gRPC, and records each latency.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use pspd::bench::load::{Client, Line, Load, Results, Schedule, lines, run};
use pspd::reach::Reach;
use pspd::reflection::Target;
use pspd_proto::database::{CreateResponse, ReadRequest};
use tokio_util::sync::CancellationToken;

use super::compare::ROUNDS;
use super::database::{COLLECTION, CREATE, READ, create};
use super::load::load_runtime;
use super::loopback::{Server, free_port, processor};
use super::say;
use super::wire::{Connection, framed};

const WARM: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(4);
/// Calls in flight.
const USERS: usize = 64;
const CONNECTIONS: usize = 4;

/// One round of one side.
struct Round {
    /// Successful calls a second.
    rate: f64,
    /// The sender's cores.
    cores: f64,
}

pub(crate) fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let http = free_port()?;
    let [database, _ai, _web] = Server::reference_at(folder.path(), http)?;
    let (json, body) = load_runtime()?.block_on(document(&database))?;
    let file = folder.path().join("message");
    std::fs::write(&file, body)?;
    compare(
        "gRPC, Read of one document",
        || {
            let target = target(database.port);
            let json = json.clone();
            ours(async move {
                Client::grpc(&target, "Read", &lines("the message", &json)?, CONNECTIONS).await
            })
        },
        || h2load_grpc(&database, &file),
    )?;
    compare(
        "HTTP/1.1, GET of the web client's page",
        || {
            let target = target(http);
            ours(async move {
                Client::http(&target, Line::parse("path", "/")?, Vec::new(), USERS).await
            })
        },
        || {
            let clients = USERS.to_string();
            h2load(&["--h1", "-c", &clients, &format!("http://127.0.0.1:{http}/")])
        },
    )
}

fn target(port: u16) -> Target {
    Target::plain(Reach::Direct, ([127, 0, 0, 1], port).into())
}

/// Stores a document; returns what reads it, as JSON and as a message.
async fn document(database: &Server) -> anyhow::Result<(String, Vec<u8>)> {
    let connection = Connection::open(database.port, CREATE).await?;
    let CreateResponse { id, success } = CreateResponse::decode(connection.call(create(0)).await?)?;
    ensure!(success, "the document was not stored");
    let json = serde_json::json!({"collection": COLLECTION, "id": id}).to_string();
    let collection = COLLECTION.to_owned();
    Ok((json, framed(&ReadRequest { collection, id }).to_vec()))
}

fn compare(
    what: &str,
    ours: impl Fn() -> anyhow::Result<Round>,
    theirs: impl Fn() -> anyhow::Result<Round>,
) -> anyhow::Result<()> {
    let (mut pspd, mut h2load) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        pspd.push(ours()?);
        h2load.push(theirs()?);
    }
    let (pspd, h2load) = (middle(pspd), middle(h2load));
    let (pspd, h2load) = (pspd.context("no round")?, h2load.context("no round")?);
    let shown = |round: &Round| {
        format!(
            "{:.0} calls/s with {:.2} cores: {:.0} for a core",
            round.rate,
            round.cores,
            round.for_a_core()
        )
    };
    say(&format!(
        "{what}, {USERS} in flight\n  pspd:   {}\n  h2load: {}\n  {:.2} times h2load's calls, {:.2} times for a core",
        shown(&pspd),
        shown(&h2load),
        pspd.rate / h2load.rate,
        pspd.for_a_core() / h2load.for_a_core()
    ));
    Ok(())
}

impl Round {
    fn for_a_core(&self) -> f64 {
        self.rate / self.cores
    }
}

/// The round of median calls for a core.
fn middle(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|one, other| one.for_a_core().total_cmp(&other.for_a_core()));
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle)
}

fn ours(client: impl Future<Output = anyhow::Result<Client>>) -> anyhow::Result<Round> {
    let load = Load {
        schedule: Schedule::Closed { users: USERS },
        warm_up: WARM,
        time: TIME,
        limit: TIME,
    };
    load_runtime()?.block_on(async {
        let client = client.await?;
        let (began, before) = (Instant::now(), processor("self")?);
        let cancel = CancellationToken::new();
        let measured = run(&load, client, Default::default(), &cancel).await?;
        let cores = (processor("self")? - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let results = Results::new(String::new(), String::new(), CONNECTIONS, &load, &measured);
        ensure!(results.failed == 0, "calls failed: {:?}", results.failures);
        let rate = results.throughput;
        Ok(Round { rate, cores })
    })
}

fn h2load_grpc(database: &Server, message: &Path) -> anyhow::Result<Round> {
    let (connections, streams) = (CONNECTIONS.to_string(), (USERS / CONNECTIONS).to_string());
    let url = format!("http://127.0.0.1:{}{READ}", database.port);
    let message = message.display().to_string();
    let grpc = [
        "-d",
        &message,
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
    ];
    h2load(&[&["-c", &connections, "-m", &streams], &grpc[..], &[&url]].concat())
}

fn h2load(arguments: &[&str]) -> anyhow::Result<Round> {
    let time = |time: Duration| time.as_secs().to_string();
    let began = Instant::now();
    // The shell's own `time`: user and system seconds of the process.
    let output = Command::new("bash")
        .args([
            "-c",
            "TIMEFORMAT='%U %S'; time \"$@\"",
            "bash",
            "h2load",
            "-t",
            "1",
            "-D",
        ])
        .args([&time(TIME), "--warm-up-time", &time(WARM)])
        .args(arguments)
        .output()
        .context("failed to run h2load; `scripts/setup --bench` installs it")?;
    let elapsed = began.elapsed().as_secs_f64();
    let (text, times) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    );
    let unexpected = || format!("h2load's output:\n{text}\n{times}");
    ensure!(output.status.success(), unexpected());
    let times = times.lines().last().with_context(unexpected)?.split(' ');
    let times: Vec<f64> = times
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(unexpected)?;
    let finished = text.split_once("finished in ").with_context(unexpected)?.1;
    let rate = finished.split(' ').nth(1).with_context(unexpected)?;
    let ok =
        text.contains(" 0 failed, 0 errored, 0 timeout") && text.contains(" 0 3xx, 0 4xx, 0 5xx");
    ensure!(ok, unexpected());
    Ok(Round {
        rate: rate.parse()?,
        cores: times.iter().sum::<f64>() / elapsed,
    })
}
