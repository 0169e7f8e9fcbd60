//! Files that are removed, replaced or damaged: what is acknowledged is there, and what is intact is served.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use pspd_proto::database::QueryRequest;
use serde_json::json;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::server::{Client, Server, maintain, place};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until health says whether the service is SERVING.
pub(crate) async fn health(server: &Server, expected: ServingStatus) {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let began = Instant::now();
    loop {
        let answer = health.check(HealthCheckRequest::default()).await.unwrap();
        if answer.into_inner().status == expected as i32 {
            return;
        }
        assert!(began.elapsed() < LIMIT, "never {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().unwrap().reason.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_a_file_of_the_store_is_not_in_its_place() {
    let (folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    let id = client.create("c", &json!({"n": 0})).await.unwrap();
    let aside = folder.path().join("aside");
    for file in [
        store.clone(),
        format!("{store}-wal"),
        format!("{store}-shm"),
    ] {
        for replaced in [false, true] {
            fs::rename(&file, &aside).unwrap();
            if replaced {
                fs::copy(&aside, &file).unwrap();
            }
            let refused = [
                client.create("c", &json!({"n": 1})).await.map(drop),
                client.update("c", &id, &json!({"n": 1})).await,
                client.delete("c", &id).await,
            ];
            for refused in refused {
                let expected = (Code::DataLoss, "STORE_MOVED".to_owned());
                assert_eq!(reason(&refused.unwrap_err()), expected, "{file}");
            }
            health(&server, ServingStatus::NotServing).await;
            assert_eq!(client.numbers("c", "").await, [0], "{file}");
            fs::rename(&aside, &file).unwrap();
            health(&server, ServingStatus::Serving).await;
        }
    }
    client.update("c", &id, &json!({"n": 2})).await.unwrap();
    server.stop();
    let server = Server::start(&store, &[]);
    assert_eq!(server.client().await.numbers("c", "").await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_use_is_found_and_ends_writes() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    for n in 0..200 {
        let document = json!({"n": n, "text": "x".repeat(500)});
        client.create("c", &document).await.unwrap();
    }
    assert!(maintain(&store, &["checkpoint"]).status.success());
    let file = File::options().write(true).open(&store).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    file.write_all_at(&[0x5a; 20_000], middle).unwrap();
    // Nobody has come across it yet: a scheduled check does.
    health(&server, ServingStatus::NotServing).await;
    let refused = client.create("c", &json!({})).await.unwrap_err();
    let expected = (Code::DataLoss, "STORE_DAMAGED".to_owned());
    assert_eq!(reason(&refused), expected);
}

/// Replaces some bytes of the store's file by as many others.
fn damage(store: &str, before: &[u8], after: &[u8]) {
    let bytes = fs::read(store).unwrap();
    let mut places = bytes.windows(before.len());
    let place = places.position(|found| found == before).unwrap() as u64;
    let file = File::options().write(true).open(store).unwrap();
    file.write_all_at(after, place).unwrap();
}

/// The numbers of a query's results, and the ids that its error names.
async fn partial(client: &Client, query: &str) -> (Vec<i64>, Vec<String>) {
    let request = QueryRequest {
        collection: "c".to_owned(),
        query: query.to_owned(),
    };
    let results = client.0.clone().query(request).await;
    let mut results = results.unwrap().into_inner();
    let mut numbers = Vec::new();
    loop {
        match results.message().await {
            Ok(Some(result)) => {
                let document: serde_json::Value = serde_json::from_str(&result.data).unwrap();
                numbers.push(document["n"].as_i64().unwrap());
            }
            Ok(None) => return (numbers, Vec::new()),
            Err(status) => return (numbers, named(&status)),
        }
    }
}

fn named(status: &Status) -> Vec<String> {
    let expected = (Code::DataLoss, "DOCUMENT_DAMAGED".to_owned());
    assert_eq!(reason(status), expected, "{status}");
    let details = status.get_error_details();
    let ids = &details.error_info().unwrap().metadata["documents"];
    ids.split(',').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_is_named_and_the_others_are_served() {
    let (_folder, store) = place();
    let indexes = ("DATABASE_INDEXES", "c:tag");
    let server = Server::start(&store, &[indexes]);
    let client = server.client().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        let document = json!({"mark": format!("mark-{n}"), "n": n, "tag": n});
        ids.push(client.create("c", &document).await.unwrap());
    }
    server.stop();
    // One is not UTF-8 now, and one not JSON: a check of the file's structure sees neither.
    damage(&store, b"mark-3", b"mar\xff-3");
    damage(&store, b"\"n\":6", b"\"n\"=6");
    let server = Server::start(&store, &[indexes]);
    let client = server.client().await;
    let damaged = vec![ids[3].clone(), ids[6].clone()];
    let reads = ids.iter().map(|id| client.read("c", id));
    for (n, read) in futures::future::join_all(reads)
        .await
        .into_iter()
        .enumerate()
    {
        match read {
            Ok(document) => assert_eq!(document["n"], json!(n)),
            Err(status) => {
                assert!([3, 6].contains(&n), "{n}: {status}");
                assert_eq!(named(&status), [ids[n].clone()]);
            }
        }
    }
    let cases = [
        ("", vec![0, 1, 2, 4, 5, 7, 8, 9], damaged.clone()),
        (
            r#"{"n": {"$gte": 2}}"#,
            vec![2, 4, 5, 7, 8, 9],
            damaged.clone(),
        ),
        (
            r#"{"tag": {"$gte": 2}}"#,
            vec![2, 4, 5, 7, 8, 9],
            damaged.clone(),
        ),
        (
            r#"{"$sort": {"n": -1}}"#,
            vec![9, 8, 7, 5, 4, 2, 1, 0],
            damaged.clone(),
        ),
        (
            r#"{"$sort": {"tag": -1}}"#,
            vec![9, 8, 7, 5, 4, 2, 1, 0],
            damaged.clone(),
        ),
        (
            r#"{"$project": {"n": 1}}"#,
            vec![0, 1, 2, 4, 5, 7, 8, 9],
            damaged.clone(),
        ),
        (r#"{"tag": 5}"#, vec![5], Vec::new()),
        (r#"{"tag": 3}"#, vec![], vec![ids[3].clone()]),
    ];
    for (query, numbers, named) in cases {
        assert_eq!(partial(&client, query).await, (numbers, named), "{query}");
    }
    // An index would need the old value.
    let refused = client.delete("c", &ids[6]).await.unwrap_err();
    assert_eq!(named(&refused), [ids[6].clone()]);
    health(&server, ServingStatus::Serving).await;
    server.stop();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    client.update("c", &ids[3], &json!({"n": 3})).await.unwrap();
    client.delete("c", &ids[6]).await.unwrap();
    assert_eq!(client.numbers("c", "").await, [0, 1, 2, 3, 4, 5, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_does_not_keep_a_store_from_getting_indexes() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        let document = json!({"n": n, "tag": n, "text": format!("word{n}")});
        ids.push(client.create("c", &document).await.unwrap());
    }
    server.stop();
    damage(&store, b"\"n\":6", b"\"n\"=6");
    // An upgrade that changes the indexes creates them in the same way.
    let indexes = ("DATABASE_INDEXES", "c:tag,text:text;d:tag");
    for _ in 0..2 {
        let server = Server::start(&store, &[indexes]);
        let client = server.client().await;
        assert_eq!(
            named(&client.read("c", &ids[6]).await.unwrap_err()),
            [ids[6].clone()]
        );
        let cases = [
            (r#"{"tag": {"$gte": 5}}"#, vec![5, 7, 8, 9]),
            (r#"{"$sort": {"tag": -1}, "$limit": 2}"#, vec![9, 8]),
            (r#"{"$text": {"$search": "word7"}}"#, vec![7]),
        ];
        for (query, numbers) in cases {
            let expected = (numbers, vec![ids[6].clone()]);
            assert_eq!(partial(&client, query).await, expected, "{query}");
        }
        health(&server, ServingStatus::Serving).await;
        server.stop();
    }
    let server = Server::start(&store, &[indexes]);
    server.client().await.delete("c", &ids[6]).await.unwrap();
    server.stop();
    let server = Server::start(&store, &[indexes]);
    let client = server.client().await;
    let found = client.numbers("c", r#"{"tag": {"$gte": 5}}"#).await;
    assert_eq!(found, [5, 7, 8, 9]);
}
