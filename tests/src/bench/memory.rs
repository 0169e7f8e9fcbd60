//! Memory of the services: all three when idle, and the database's while callers are slow, with a million documents and
//! with large ones.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{CreateRequest, QueryRequest, QueryResponse};
use tonic::Streaming;
use tonic::transport::Channel;

use super::database::{create, service};
use super::load::{Until, load_runtime, run};
use super::loopback::Server;
use super::say;
use super::wire::{Connection, framed};

pub(crate) const DOCUMENTS: u64 = 1_000_000;
const CALLERS: usize = 256;
const CONNECTIONS: usize = 4;
/// How long the caller pauses after each result.
const SLOW: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
/// How long services are idle before the measurement.
const IDLE: Duration = Duration::from_secs(10);
/// The most memory that a service may use at any time, in MiB.
const MOST: f64 = 64.0;
const LARGE: usize = 3 << 20;
const LARGE_DOCUMENTS: usize = 40;
const QUERIES: [&str; 2] = ["", r#"{"$sort": {"n": -1}}"#];

pub(crate) fn measure() -> anyhow::Result<()> {
    idle()?;
    let runtime = load_runtime()?;
    runtime.block_on(million())?;
    runtime.block_on(stalled())
}

fn idle() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let services = Server::reference(folder.path())?;
    std::thread::sleep(IDLE);
    for service in &services {
        let memory = service.memory()?;
        say(&format!("{}, idle: {memory:.0} MiB", service.name));
        ensure!(
            memory < MOST,
            "`{}` uses {memory:.0} MiB, expected less than {MOST:.0} MiB",
            service.name
        );
    }
    Ok(())
}

/// A caller that is slow at first, then as fast as possible; each query on a freshly started server.
async fn million() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = service(folder.path())?;
    let began = Instant::now();
    fill(&server).await?;
    say(&format!(
        "{DOCUMENTS} documents of {} bytes stored in {:.0} s",
        create(0).len(),
        began.elapsed().as_secs_f64()
    ));
    drop(server);
    for query in QUERIES {
        let server = service(folder.path())?;
        let idle = server.memory()?;
        let began = Instant::now();
        let mut results = ask(&server, "bench", query).await?;
        let mut taken = 0;
        while results.message().await?.is_some() {
            taken += 1;
            if began.elapsed() < SLOW {
                tokio::time::sleep(PAUSE).await;
            }
        }
        ensure!(taken == DOCUMENTS, "{taken} results of `{query}`");
        let most = server.most_memory()?;
        say(&format!(
            "query `{query}`: {taken} results to a slow caller in {:.0} s; memory {idle:.0} MiB at start, {most:.0} MiB at most",
            began.elapsed().as_secs_f64()
        ));
        ensure!(
            most < MOST,
            "the query used {most:.0} MiB, expected less than {MOST:.0} MiB"
        );
    }
    Ok(())
}

pub(crate) async fn fill(server: &Server) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let method = "/database.DatabaseService/Create";
        connections.push(Connection::open(server.port, method).await?);
    }
    run(CALLERS, Until::Calls(DOCUMENTS), move |caller, number| {
        let connection = connections[caller % CONNECTIONS].clone();
        async move { connection.call(create(number)).await.map(drop) }
    })
    .await?;
    Ok(())
}

/// Callers that read one large document each, and then stop reading.
async fn stalled() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = service(folder.path())?;
    let method = "/database.DatabaseService/Create";
    let connection = Connection::open(server.port, method).await?;
    for n in 0..LARGE_DOCUMENTS {
        connection.call(large(n)).await?;
    }
    drop(server);
    let server = service(folder.path())?;
    let idle = server.memory()?;
    let mut callers = Vec::new();
    for query in QUERIES {
        let mut results = ask(&server, "large", query).await?;
        ensure!(results.message().await?.is_some(), "no result");
        callers.push(results);
    }
    let (now, most) = (server.memory()?, server.most_memory()?);
    say(&format!(
        "two stalled callers of documents of {LARGE} bytes: memory {idle:.0} MiB at start, {now:.0} MiB now, {most:.0} MiB at most"
    ));
    Ok(())
}

fn large(n: usize) -> Bytes {
    let text = "x".repeat(LARGE);
    framed(&CreateRequest {
        collection: "large".to_owned(),
        data: format!(r#"{{"n":{n},"text":"{text}"}}"#),
    })
}

async fn ask(
    server: &Server,
    collection: &str,
    query: &str,
) -> anyhow::Result<Streaming<QueryResponse>> {
    let channel = Channel::from_shared(server.url())?.connect().await?;
    let mut client = DatabaseServiceClient::new(channel).max_decoding_message_size(2 * LARGE);
    let request = QueryRequest {
        collection: collection.to_owned(),
        query: query.to_owned(),
    };
    Ok(client.query(request).await?.into_inner())
}
