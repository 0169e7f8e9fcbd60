//! The database service beside the same contract in Node (grpc-js, Prisma), and beside its own engine without gRPC.
//!
//! Both sides run on loopback without TLS, over SQLite with a write-ahead log and full sync.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use database_server::{Indexes, Location, Store};
use prost::Message as _;
use pspd_proto::database::{CreateRequest, CreateResponse, ReadRequest};
use pspd_tests::deployment::{output, root};
use tokio::runtime::Runtime;

use super::compare::{CALLERS, ROUNDS, TIME, Target, compare, middle};
use super::load::{Measured, Until, load_runtime, run};
use super::loopback::{Server, processor};
use super::say;
use super::wire::{Connection, framed};

const CREATE: &str = "/database.DatabaseService/Create";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const READ: &str = "/database.DatabaseService/Read";
const COLLECTION: &str = "bench";
/// Documents that reads choose from.
const STORED: u64 = 1000;
/// What a service may take when it has nothing to do, in MiB.
const IDLE: f64 = 64.0;
const BASELINE: &str = "tests/baselines/database-node";

pub fn measure() -> anyhow::Result<()> {
    let home = prepare()?;
    let folder = tempfile::tempdir()?;
    let service = service(folder.path())?;
    let baseline = baseline(&home, folder.path())?;
    let idle = service.memory()?;
    say(&format!(
        "memory at start: service {idle:.0} MiB, baseline {:.0} MiB",
        baseline.memory()?
    ));
    ensure!(idle < IDLE, "the idle service takes {idle:.0} MiB");
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
async fn reads(server: &Server) -> anyhow::Result<Arc<[Bytes]>> {
    let connection = Connection::open(server.port, CREATE).await?;
    let mut messages = Vec::new();
    for n in 0..STORED {
        let answer = connection.call(create(n)).await?;
        let CreateResponse { id, success } = CreateResponse::decode(answer)?;
        ensure!(success, "a create that is no success");
        messages.push(framed(&ReadRequest {
            collection: COLLECTION.to_owned(),
            id,
        }));
    }
    Ok(messages.into())
}

/// Durable creates at the most callers: the service, and its engine in this process, in turn. And a call of the service
/// that does nothing: with the engine's work, it is what a create costs at least.
pub fn against_engine() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let service = service(folder.path())?;
    let callers = CALLERS[1];
    let (load, runtime) = (load_runtime()?, Runtime::new()?);
    let location = Location::File(folder.path().join("within.sqlite"));
    let store = runtime.block_on(Store::open(&location, Indexes::default()))?;
    let documents = (0..STORED).map(create).collect();
    let served = load.block_on(Target::open(&service, CREATE, documents))?;
    let nothing = load.block_on(Target::open(&service, CHECK, [framed(&())].into()))?;
    let (mut over_grpc, mut idle, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        over_grpc.push(load.block_on(served.load(callers))?);
        idle.push(load.block_on(nothing.load(callers))?);
        let before = processor("self")?;
        let calls = runtime.block_on(engine(&store, callers))?;
        alone.push((calls, processor("self")? - before));
    }
    runtime.block_on(store.close())?;
    let over_grpc = middle(over_grpc).context("no round")?;
    let idle = middle(idle).context("no round")?;
    alone.sort_by(|(one, _), (other, _)| one.throughput().total_cmp(&other.throughput()));
    let (alone, spent) = &alone[ROUNDS / 2];
    let cores = spent.as_secs_f64() / alone.elapsed.as_secs_f64();
    let most = processors()? / (idle.cost() + cores / alone.throughput());
    say(&format!(
        "Create, and the engine in one process\n  service: {over_grpc}\n  engine:  {alone}; cores: {cores:.2}\n  \
         {:.2} of the engine's throughput\n  a call that does nothing: {idle}\n  with it and the engine's work, and all \
         processors busy: {:.2} at most",
        over_grpc.calls.throughput() / alone.throughput(),
        most / alone.throughput()
    ));
    Ok(())
}

fn processors() -> anyhow::Result<f64> {
    Ok(std::thread::available_parallelism()?.get() as f64)
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
pub fn service(folder: &Path) -> anyhow::Result<Server> {
    let store = folder.join("service.sqlite");
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

/// Installs the baseline beside the build, where it is not there yet: what npm brings is no part of the source.
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

pub fn create(n: u64) -> Bytes {
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
