//! What is acknowledged stays: across stops, kills, migrations; damage is found, and copies are whole.

use std::fs;
use std::path::Path;

use futures::future::join_all;
use serde_json::json;

use crate::server::{Server, command, maintain, place, text};

/// Many writers, the process killed in their midst, several times over: each acknowledged write is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing() {
    let (_folder, store) = place();
    let mut acknowledged: Vec<(String, i64)> = Vec::new();
    for round in 0..3 {
        let server = Server::start(&store, &[]);
        let client = server.client().await;
        for (id, n) in &acknowledged {
            assert_eq!(client.read("c", id).await.unwrap(), json!({"n": n}));
        }
        let writers = (0..64).map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for turn in 0.. {
                    let n = round * 1_000_000 + writer * 10_000 + turn;
                    match client.create("c", &json!({"n": n})).await {
                        Ok(id) => kept.push((id, n)),
                        Err(_) => break,
                    }
                }
                kept
            })
        });
        let writers: Vec<_> = writers.collect();
        let enough = 200 * (round as usize + 1);
        while client.query("c", "").await.unwrap().len() < enough {}
        server.signal("-KILL");
        for kept in join_all(writers).await {
            acknowledged.extend(kept.unwrap());
        }
    }
    assert!(acknowledged.len() >= 500, "{}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_one_file_that_a_start_continues() {
    let (folder, store) = place();
    let server = Server::start(&store, &[]);
    let id = server
        .client()
        .await
        .create("c", &json!({"n": 1}))
        .await
        .unwrap();
    server.stop();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let server = Server::start(&store, &[]);
    assert_eq!(
        server.client().await.read("c", &id).await.unwrap(),
        json!({"n": 1})
    );
}

/// Why a store could not be opened.
fn refusal(store: &str, environment: &[(&str, &str)]) -> String {
    match Server::spawn(command(store, environment)) {
        Ok(_) => panic!("it serves"),
        Err(said) => said,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_at_start() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    for n in 0..200 {
        client
            .create("c", &json!({"n": n, "text": "x".repeat(500)}))
            .await
            .unwrap();
    }
    server.stop();
    let mut bytes = fs::read(&store).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5a);
    fs::write(&store, &bytes).unwrap();
    let said = refusal(&store, &[]);
    assert!(said.contains("is damaged; keep the file"), "{said}");
    fs::write(&store, b"this is not a database".repeat(1000)).unwrap();
    let said = refusal(&store, &[]);
    assert!(
        said.contains("failed to open the store") && said.contains("not a database"),
        "{said}"
    );
}

#[test]
fn a_configuration_is_refused_with_its_variable() {
    let (_folder, store) = place();
    let output = command(&store, &[("DATABASE_INDEXES", "documents")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("`DATABASE_INDEXES` has `documents`: write it as"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_store_in_use_is_of_one_moment() {
    let (folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    for n in 0..500 {
        client.create("c", &json!({"n": n})).await.unwrap();
    }
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            for n in 500.. {
                if client.create("c", &json!({"n": n})).await.is_err() {
                    break;
                }
            }
        }
    });
    let copy = text(&folder.path().join("copy.sqlite"));
    let ran = backup(&store, &copy);
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stdout)
    );
    let again = backup(&store, &copy);
    assert!(String::from_utf8_lossy(&again.stdout).contains("already exists"));
    drop(server);
    writer.await.unwrap();
    assert!(!Path::new(&format!("{copy}-wal")).exists());
    // It is a store like any other; with no gap, however many there are in it.
    let server = Server::start(&copy, &[]);
    let numbers = server.client().await.numbers("c", "").await;
    assert!(numbers.len() >= 500);
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_store_in_use_empties_its_log() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    for n in 0..50 {
        client.create("c", &json!({"n": n})).await.unwrap();
    }
    let log = || std::fs::metadata(format!("{store}-wal")).unwrap().len();
    assert!(log() > 0);
    let ran = maintain(&store, &["checkpoint"]);
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}");
    assert_eq!(log(), 0);
    client.create("c", &json!({"n": 50})).await.unwrap();
    assert_eq!(client.numbers("c", "").await.len(), 51);
}

fn backup(store: &str, copy: &str) -> std::process::Output {
    maintain(store, &["backup", copy])
}
