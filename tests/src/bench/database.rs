//! The database service against the same contract in Node (grpc-js, Prisma), and against its own engine without gRPC.
//!
//! Both sides run on loopback without TLS, over SQLite with a write-ahead log and full sync.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use database_server::{Indexes, Location, Store, backup};
use prost::Message as _;
use pspd_proto::database::{CreateRequest, CreateResponse, ReadRequest};
use pspd_tests::process::output;
use pspd_tests::root;
use tokio::runtime::Runtime;

use super::compare::{CALLERS, CONNECTIONS, ROUNDS, TIME, Target, compare};
use super::load::{Measured, Until, load_runtime, run};
use super::loopback::Server;
use super::say;
use super::wire::{Connection, framed};

pub(crate) const CREATE: &str = "/database.DatabaseService/Create";
pub(crate) const READ: &str = "/database.DatabaseService/Read";
pub(crate) const COLLECTION: &str = "bench";
/// The service's file.
const STORE: &str = "service.sqlite";
/// Documents that reads choose from.
pub(crate) const STORED: u64 = 1000;
/// The most memory that an idle service may use, in MiB.
const IDLE: f64 = 64.0;
const BASELINE: &str = "tests/baselines/database-node";

pub(crate) fn measure() -> anyhow::Result<()> {
    let home = prepare()?;
    let folder = tempfile::tempdir()?;
    let service = service(folder.path())?;
    let baseline = baseline(&home, folder.path())?;
    let idle = service.memory()?;
    say(&format!(
        "memory at start: service {idle:.0} MiB, baseline {:.0} MiB",
        baseline.memory()?
    ));
    ensure!(idle < IDLE, "the idle service uses {idle:.0} MiB");
    load_runtime()?.block_on(beside(&service, &baseline))
}

/// Reads and creates, on both sides.
async fn beside(service: &Server, baseline: &Server) -> anyhow::Result<()> {
    let documents: Arc<[_]> = (0..STORED).map(create).collect();
    let (ours, theirs) = (reads(service).await?, reads(baseline).await?);
    let read = [
        Target::open(service, READ, ours).await?,
        Target::open(baseline, READ, theirs).await?,
    ];
    let create = [
        Target::open(service, CREATE, documents.clone()).await?,
        Target::open(baseline, CREATE, documents).await?,
    ];
    for callers in CALLERS {
        compare("Read", callers, read.each_ref()).await?;
        compare("Create", callers, create.each_ref()).await?;
    }
    Ok(())
}

/// Stores documents, and makes the messages that read them.
pub(crate) async fn reads(server: &Server) -> anyhow::Result<Arc<[Bytes]>> {
    let connection = Connection::open(server.port, CREATE).await?;
    let mut messages = Vec::new();
    for n in 0..STORED {
        let answer = connection.call(create(n)).await?;
        let CreateResponse { id, success } = CreateResponse::decode(answer)?;
        ensure!(success, "a create was not successful");
        messages.push(framed(&ReadRequest {
            collection: COLLECTION.to_owned(),
            id,
        }));
    }
    Ok(messages.into())
}

/// Durable creates at the most callers: the service, and its engine in this process, in turn.
pub(crate) fn against_engine() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let service = service(folder.path())?;
    let callers = CALLERS[1];
    let runtime = Runtime::new()?;
    let location = Location::File(folder.path().join("within.sqlite"));
    let store = runtime.block_on(Store::open(&location, Indexes::default()))?;
    let (mut over_grpc, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        over_grpc.push(h2load(&service, folder.path(), callers)?);
        alone.push(runtime.block_on(engine(&store, callers))?.throughput());
    }
    runtime.block_on(store.close())?;
    let copy = folder.path().join("copy.sqlite");
    let stored = runtime.block_on(backup(&Location::File(folder.path().join(STORE)), &copy))?;
    let answered: u64 = over_grpc.iter().map(|(calls, _)| calls).sum();
    let under_way = (callers * ROUNDS) as u64;
    ensure!(
        (answered..=answered + under_way).contains(&stored),
        "{answered} creates were answered, and {stored} documents stored"
    );
    let mut over_grpc: Vec<f64> = over_grpc.iter().map(|(_, rate)| *rate).collect();
    for side in [&mut over_grpc, &mut alone] {
        side.sort_by(f64::total_cmp);
    }
    let (served, engine) = (over_grpc[ROUNDS / 2], alone[ROUNDS / 2]);
    say(&format!(
        "Create at {callers} callers, and the engine in one process\n  service: {served:.0} calls/s of {over_grpc:.0?}\n  \
         engine:  {engine:.0} calls/s of {alone:.0?}\n  {:.2} of the engine's throughput",
        served / engine
    ));
    Ok(())
}

/// Creates as fast as possible, by a load generator that leaves the server most of the processors. Returns how many calls
/// were answered, and how many per second; checks the HTTP status only.
fn h2load(service: &Server, folder: &Path, callers: usize) -> anyhow::Result<(u64, f64)> {
    let body = folder.join("message");
    fs::write(&body, create(0))?;
    let mut command = Command::new("h2load");
    command
        .args(["--threads=1", &format!("--clients={CONNECTIONS}")])
        .arg(format!(
            "--max-concurrent-streams={}",
            callers / CONNECTIONS
        ))
        .arg(format!("--duration={}", TIME.as_secs()))
        .arg(format!("--data={}", body.display()))
        .args([
            "--header=content-type: application/grpc",
            "--header=te: trailers",
        ])
        .arg(format!("http://127.0.0.1:{}{CREATE}", service.port));
    let printed = output(&mut command).context("the package nghttp2-client provides h2load")?;
    let number = |after: &str, before: &str| {
        let (_, rest) = printed.split_once(after)?;
        rest.split_once(before)?.0.trim().parse::<f64>().ok()
    };
    let rate = number("s, ", " req/s");
    let succeeded = number("done, ", " succeeded");
    let (Some(rate), Some(succeeded)) = (rate, succeeded) else {
        bail!("unexpected output of h2load:\n{printed}");
    };
    Ok((succeeded as u64, rate))
}

async fn engine(store: &Store, callers: usize) -> anyhow::Result<Measured> {
    let store = store.clone();
    run(callers, Until::Elapsed(TIME), move |_, number| {
        let store = store.clone();
        async move {
            let created = store.create(COLLECTION.to_owned(), document(number));
            created.await.map(drop)
        }
    })
    .await
}

/// The service as it is deployed.
pub(crate) fn service(folder: &Path) -> anyhow::Result<Server> {
    let store = folder.join(STORE);
    let store = store.to_str().context("the path is UTF-8")?;
    Server::service("database-server", &[("DATABASE_STORE", store)])
}

fn baseline(home: &Path, folder: &Path) -> anyhow::Result<Server> {
    Server::start("the Node baseline", |port| {
        let mut command = Command::new("node");
        command
            .arg("server.mjs")
            .arg(root().join("proto/database_service.proto"))
            .arg(folder.join("node.sqlite"))
            .arg(port.to_string())
            .current_dir(home);
        command
    })
}

/// Installs the baseline in the build folder if it is not there yet: packages from npm do not belong to the source.
fn prepare() -> anyhow::Result<PathBuf> {
    let home = root().join("target/baselines/database-node");
    let source = root().join(BASELINE);
    let locked = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let installed = home.join("installed");
    let install = locked(&source) != fs::read(&installed).ok();
    fs::create_dir_all(&home)?;
    for file in fs::read_dir(&source).with_context(|| format!("{}", source.display()))? {
        let file = file?;
        fs::copy(file.path(), home.join(file.file_name()))?;
    }
    if install {
        say("preparing the Node baseline");
        let npm =
            |arguments: &[&str]| output(Command::new("npm").args(arguments).current_dir(&home));
        npm(&[
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ])?;
        npm(&["run", "generate"])?;
        fs::copy(source.join("package-lock.json"), installed)?;
    }
    Ok(home)
}

pub(crate) fn create(n: u64) -> Bytes {
    framed(&CreateRequest {
        collection: COLLECTION.to_owned(),
        data: document(n),
    })
}

/// About 200 bytes.
fn document(n: u64) -> String {
    let text = "words of a document ".repeat(8);
    format!(r#"{{"n":{n},"label":"label {}","text":"{text}"}}"#, n % 100)
}
