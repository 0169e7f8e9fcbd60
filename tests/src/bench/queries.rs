//! Queries over a million documents: quick ones beside scans, and counts.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_proto::database::QueryRequest;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::database::COLLECTION;
use super::load::{Until, load_runtime, run};
use super::loopback::Server;
use super::memory::{DOCUMENTS, fill};
use super::{row, say};

const SCANS: usize = 12;
/// It matches nothing, slowly.
const SCAN: &str = r#"{"text": {"$regex": "(?i)(w[a-z]{1,40} ?){5}[0-9]$"}}"#;
const QUICK: [&str; 3] = [r#"{"$limit": 1}"#, r#"{"_id": "none"}"#, r#"{"n": 123456}"#];
const TIME: Duration = Duration::from_secs(10);
/// The most that a quick query may take beside scans.
const MOST: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;
/// Counts, and their results.
const COUNTS: [(&str, u64); 4] = [
    (r#"{"$count": true}"#, DOCUMENTS),
    (r#"{"label": "label 7", "$count": true}"#, DOCUMENTS / 100),
    (
        r#"{"n": {"$gte": 500000}, "$count": true}"#,
        DOCUMENTS - 500_000,
    ),
    (
        r#"{"n": {"$lt": 900000}, "label": {"$in": ["label 1", "label 2"]}, "$count": true}"#,
        900_000 / 50,
    ),
];
/// The most that a count may take, in seconds.
const COUNT: f64 = 0.3;

type Client = DatabaseServiceClient<Channel>;

pub(crate) fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store.sqlite").display().to_string();
    let indexes = format!("{COLLECTION}:label,n");
    let variables = [
        ("DATABASE_STORE", store.as_str()),
        ("DATABASE_INDEXES", &indexes),
    ];
    let runtime = load_runtime()?;
    let server = Server::service("database-server", &variables)?;
    runtime.block_on(fill(&server))?;
    drop(server);
    // At its start it counts what the indexes have.
    let server = Server::service("database-server", &variables)?;
    runtime.block_on(async {
        let channel = Channel::from_shared(server.url())?.connect().await?;
        let client = DatabaseServiceClient::new(channel);
        counts(&client).await?;
        beside_scans(&server, &client).await
    })
}

async fn counts(client: &Client) -> anyhow::Result<()> {
    for (query, expected) in COUNTS {
        let mut runs = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let results = query_all(client, query).await?;
            runs.push(began.elapsed());
            let expected = format!(r#"{{"count":{expected}}}"#);
            ensure!(results == [expected.as_str()], "{query}: {results:?}");
        }
        let middle = row(query, &runs);
        ensure!(middle <= COUNT, "a count took {middle:.2} s");
    }
    Ok(())
}

async fn beside_scans(server: &Server, client: &Client) -> anyhow::Result<()> {
    quick("alone", client).await?;
    let mut scans: Vec<JoinHandle<anyhow::Result<()>>> = Vec::new();
    for _ in 0..SCANS {
        let channel = Channel::from_shared(server.url())?.connect().await?;
        let client = DatabaseServiceClient::new(channel);
        scans.push(tokio::spawn(async move {
            loop {
                query_all(&client, SCAN).await?;
            }
        }));
    }
    let p99 = quick(&format!("beside {SCANS} scans"), client).await?;
    for scan in scans {
        scan.abort();
        // It ends by that, or failed before.
        if let Ok(ended) = scan.await {
            ended.context("a scan failed")?;
        }
    }
    ensure!(p99 < MOST, "p99 is {p99:?}, expected less than {MOST:?}");
    Ok(())
}

/// One caller of quick queries in turn; returns the 99th percentile of their times.
async fn quick(what: &str, client: &Client) -> anyhow::Result<Duration> {
    let client = client.clone();
    let measured = run(1, Until::Elapsed(TIME), move |_, number| {
        let client = client.clone();
        let query = QUICK[number as usize % QUICK.len()];
        async move { query_all(&client, query).await.map(drop) }
    });
    let measured = measured.await?;
    say(&format!("a quick query {what}: {measured}"));
    Ok(measured.p99)
}

/// The data of all results.
async fn query_all(client: &Client, query: &str) -> anyhow::Result<Vec<String>> {
    let request = QueryRequest {
        collection: COLLECTION.to_owned(),
        query: query.to_owned(),
    };
    let mut results = client.clone().query(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(result) = results.message().await? {
        found.push(result.data);
    }
    Ok(found)
}
