//! Queries that read a whole collection take turns with all others, and end when nobody waits for them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::server::{Client, Server, place};

const DOCUMENTS: usize = 20_000;
/// They match nothing, slowly.
const COSTLY: [&str; 2] = [
    r#"{"text": {"$regex": "(?i)(a[a-z]{1,40} ?){5}[0-9]$"}}"#,
    r#"{"text": {"$regex": "(?i)(a[a-z]{1,40} ?){5}[0-9]$"}, "$sort": {"text": -1}}"#,
];
const CHEAP: [&str; 3] = [
    r#"{"$limit": 1}"#,
    r#"{"_id": "none"}"#,
    r#"{"label": "rare"}"#,
];
const SCANS: usize = 12;

async fn fill(client: &Client) {
    let text = "alpha beta gamma delta ".repeat(20);
    let document = &json!({ "text": text });
    for _ in 0..DOCUMENTS / 500 {
        let some = (0..500).map(|_| client.create("many", document));
        for created in join_all(some).await {
            created.unwrap();
        }
    }
    client
        .create("many", &json!({"label": "rare"}))
        .await
        .unwrap();
}

async fn time(client: &Client, query: &str) -> Duration {
    let began = Instant::now();
    client.query("many", query).await.unwrap();
    began.elapsed()
}

/// Scans that are cancelled after a time: whether the service still works on them shows in the time of the next.
async fn give_up(client: &Client, query: &str, after: Duration) {
    let scans = (0..SCANS).map(|_| async {
        let scan = tokio::time::timeout(after, time(client, query)).await;
        assert!(scan.is_err(), "a scan is too quick for this test");
    });
    join_all(scans).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_keep_out_no_other_queries() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[("DATABASE_INDEXES", "many:label")]);
    let client = server.client().await;
    fill(&client).await;
    for costly in COSTLY {
        let scan = time(&client, costly).await;
        give_up(&client, costly, scan / 2).await;
        let after = time(&client, costly).await;
        // Together they have been given time for half a scan; they would run for as long as twelve.
        assert!(after < 4 * scan, "{after:?}, {scan:?} alone: {costly}");

        let scans: Vec<JoinHandle<()>> = (0..SCANS)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    loop {
                        time(&client, costly).await;
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut times = Vec::new();
        for _ in 0..20 {
            for cheap in CHEAP {
                times.push(time(&client, cheap).await);
            }
        }
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!(
            "cheap queries beside scans of {scan:?}: {median:?}, at most {:?}",
            times.last()
        );
        assert!(median < scan / 2, "{median:?}, and a scan alone {scan:?}");
        scans.iter().for_each(JoinHandle::abort);
    }
}
