//! What holds for every store: the five methods, under concurrency too.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;
use serving::testing::object_text;
use tonic::Code;

use crate::server::{Client, Server, place};

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    story(&server.client().await).await;
}

pub(crate) async fn story(client: &Client) {
    create_read_update_delete(client).await;
    texts_are_kept(client).await;
    collections_are_apart(client).await;
    concurrent_writers(client).await;
    ids_sort_by_age(client).await;
}

async fn create_read_update_delete(client: &Client) {
    let document = json!({"a": 1, "ü": ["x", null, {"y": 1.5}], "long": "x".repeat(100_000)});
    let id = client.create("one", &document).await.unwrap();
    assert_eq!(client.read("one", &id).await.unwrap(), document);
    client.update("one", &id, &json!({"a": 2})).await.unwrap();
    assert_eq!(client.read("one", &id).await.unwrap(), json!({"a": 2}));
    client.delete("one", &id).await.unwrap();
    let gone = [
        client.read("one", &id).await.map(drop),
        client.update("one", &id, &json!({})).await,
        client.delete("one", &id).await,
    ];
    assert_eq!(
        gone.map(|outcome| outcome.unwrap_err().code()),
        [Code::NotFound; 3]
    );
}

/// Whatever a document's text is, it comes back as it went in.
async fn texts_are_kept(client: &Client) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = || object_text(&mut |below| random.usize(..below));
    let mut stored = Vec::new();
    for _ in 0..200 {
        let (created, updated) = (text(), text());
        let id = client.create_text("texts", created.clone()).await.unwrap();
        assert_eq!(client.read_text("texts", &id).await.unwrap(), created);
        let updating = client.update_text("texts", &id, updated.clone()).await;
        updating.unwrap();
        assert_eq!(client.read_text("texts", &id).await.unwrap(), updated);
        stored.push((id, updated));
    }
    for query in ["", r#"{"$sort": {"a": 1, "_id": 1}}"#] {
        let mut found = client.query_texts("texts", query).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, stored, "{query}");
    }
}

async fn collections_are_apart(client: &Client) {
    let id = client.create("here", &json!({"n": 1})).await.unwrap();
    let there = [
        client.read("there", &id).await.map(drop),
        client.update("there", &id, &json!({})).await,
        client.delete("there", &id).await,
    ];
    assert_eq!(
        there.map(|outcome| outcome.unwrap_err().code()),
        [Code::NotFound; 3]
    );
    assert_eq!(client.numbers("here", "").await, [1]);
    assert_eq!(client.numbers("there", "").await, [0; 0]);
}

/// Each caller's writes are all there, and those that fail don't touch their neighbours.
async fn concurrent_writers(client: &Client) {
    let callers = (0..64).map(|caller| async move {
        let mut kept = Vec::new();
        for turn in 0..8 {
            let n = caller * 8 + turn;
            let id = client.create("many", &json!({"n": n})).await.unwrap();
            match turn % 4 {
                0 => client.update("many", &id, &json!({"n": -n})).await.unwrap(),
                1 => {
                    client.delete("many", &id).await.unwrap();
                    continue;
                }
                2 => {
                    let missing = client.delete("many", "no-such-document").await;
                    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
                }
                _ => {}
            }
            kept.push((id, if turn % 4 == 0 { -n } else { n }));
        }
        kept
    });
    let kept: BTreeSet<_> = join_all(callers).await.into_iter().flatten().collect();
    let found = client.query("many", "").await.unwrap();
    let found: BTreeSet<_> = found
        .into_iter()
        .map(|(id, document)| (id, document["n"].as_i64().unwrap()))
        .collect();
    assert_eq!(found, kept);
    let reads = kept.iter().map(|(id, n)| async move {
        assert_eq!(client.read("many", id).await.unwrap(), json!({"n": n}));
    });
    join_all(reads).await;
}

async fn ids_sort_by_age(client: &Client) {
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(client.create("aged", &json!({"n": n})).await.unwrap());
    }
    assert!(ids.is_sorted());
    assert_eq!(
        client.numbers("aged", "").await,
        (0..20).collect::<Vec<_>>()
    );
}
