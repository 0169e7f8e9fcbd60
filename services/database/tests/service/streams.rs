//! Results in constant memory, as fast as the caller takes them and no faster.

use std::time::{Duration, Instant};

use futures::future::join_all;
use pspd_proto::database::QueryRequest;
use serde_json::json;

use crate::server::{Client, Server, place};

const MEMORY_KIB: u64 = 64 * 1024;
const LARGE_MEMORY_KIB: u64 = 96 * 1024;
/// Fill the collection; together they share syncs.
const CALLERS: usize = 256;

async fn fill(client: &Client, documents: usize) {
    let callers = (0..CALLERS).map(|caller| async move {
        for n in (caller..documents).step_by(CALLERS) {
            let document =
                json!({"n": n, "label": format!("label {}", n % 100), "text": "x".repeat(150)});
            client.create("big", &document).await.unwrap();
        }
    });
    join_all(callers).await;
}

/// Takes a result now and then, then all: what the service holds stays small meanwhile.
async fn slow(server: &Server, query: &str, expected: usize) {
    let mut client = server.client().await.0;
    let request = QueryRequest {
        collection: "big".to_owned(),
        query: query.to_owned(),
    };
    let mut results = client.query(request).await.unwrap().into_inner();
    let mut taken = 0;
    let began = Instant::now();
    while results.message().await.unwrap().is_some() {
        taken += 1;
        if began.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(taken, expected, "{query}");
    let (_, most) = server.memory();
    assert!(most < MEMORY_KIB, "{query}: {most} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_callers_of_a_big_collection() {
    let documents: usize =
        std::env::var("DATABASE_TEST_DOCUMENTS").map_or(10_000, |text| text.parse().unwrap());
    let (_folder, store) = place();
    let server = Server::start(&store, &[("DATABASE_INDEXES", "big:label")]);
    let client = server.client().await;
    let began = Instant::now();
    fill(&client, documents).await;
    println!("{documents} documents in {:?}", began.elapsed());
    let queries = [
        ("", documents),
        (r#"{"$sort": {"n": -1}}"#, documents),
        (
            r#"{"label": {"$gte": "label 5"}, "$sort": {"text": 1}}"#,
            documents * 55 / 100,
        ),
        (r#"{"label": "label 7"}"#, documents / 100),
    ];
    join_all(queries.map(|(query, expected)| slow(&server, query, expected))).await;
    println!("memory in KiB, now and at most: {:?}", server.memory());
}

/// Large documents count by their size: callers that take nothing leave the service small.
#[tokio::test(flavor = "multi_thread")]
async fn large_documents_to_callers_that_stall() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    for n in 0..40 {
        let document = json!({"n": n, "text": "x".repeat(3 << 20)});
        client.create("large", &document).await.unwrap();
    }
    drop(client);
    server.stop();
    let server = Server::start(&store, &[]);
    let mut stalled = Vec::new();
    println!("memory in KiB at start: {:?}", server.memory());
    for query in ["", r#"{"$sort": {"n": -1}}"#] {
        let mut client = server.client().await.0;
        let request = QueryRequest {
            collection: "large".to_owned(),
            query: query.to_owned(),
        };
        let mut results = client.query(request).await.unwrap().into_inner();
        assert!(results.message().await.unwrap().is_some());
        stalled.push((client, results));
        println!("memory in KiB with a stalled caller: {:?}", server.memory());
    }
    // Two pages of one document each, and what SQLite keeps of the last few that it has parsed: less than there are.
    let (_, most) = server.memory();
    assert!(most < LARGE_MEMORY_KIB, "{most} KiB");
    for (_, results) in &mut stalled {
        let mut rest = 0;
        while results.message().await.unwrap().is_some() {
            rest += 1;
        }
        assert_eq!(rest, 39);
    }
}
