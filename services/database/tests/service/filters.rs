//! The query language, each line on every store.

use serde_json::{Value as Json, json};

use crate::server::{Client, Server, place};

/// A declared index must not change an answer.
pub(crate) const INDEXES: (&str, &str) = (
    "DATABASE_INDEXES",
    "indexed:tag,tags,a.b,price,name;articles:title:text,parts.body:text",
);

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[INDEXES]);
    story(&server.client().await, true).await;
}

fn documents() -> Vec<Json> {
    vec![
        json!({"n": 0, "tag": "red", "price": 5, "a": {"b": 1}, "on": true}),
        json!({"n": 1, "tag": "Red", "price": 10.5, "a": {"b": [1, 2]}, "on": false}),
        json!({"n": 2, "tags": ["red", "blue"], "price": "10", "a": {"b": "1"}}),
        json!({"n": 3, "tags": [], "price": 20, "a": null, "name": "O'Neil ?"}),
        json!({"n": 4, "tags": ["blue", 7, null], "price": -3, "name": "50% \"off\""}),
        json!({"n": 5, "tag": null, "a": {"b": {"c": true}}, "odd ' key?": 1, "1": 1}),
    ]
}

const FILTERS: &[(&str, &[i64])] = &[
    ("", &[0, 1, 2, 3, 4, 5]),
    (r#"{"tag": "red"}"#, &[0]),
    (r#"{"tags": "red"}"#, &[2]),
    (r#"{"tags": "blue"}"#, &[2, 4]),
    (r#"{"tags": 7}"#, &[4]),
    (r#"{"price": {"$gt": 10}}"#, &[1, 3]),
    (r#"{"price": {"$gte": 5, "$lte": 10.5}}"#, &[0, 1]),
    (r#"{"price": {"$lt": 0}}"#, &[4]),
    (r#"{"price": "10"}"#, &[2]),
    (r#"{"price": {"$gt": "0"}}"#, &[2]),
    (r#"{"price": 10.5}"#, &[1]),
    (r#"{"price": {"$in": [5, "10", 20.0]}}"#, &[0, 2, 3]),
    (r#"{"price": {"$nin": [5, "10", 20]}}"#, &[1, 4, 5]),
    (r#"{"price": {"$in": []}}"#, &[]),
    (r#"{"price": {"$nin": []}}"#, &[0, 1, 2, 3, 4, 5]),
    (r#"{"tag": {"$ne": "red"}}"#, &[1, 2, 3, 4, 5]),
    (r#"{"tags": {"$ne": "red"}}"#, &[0, 1, 3, 4, 5]),
    (r#"{"tag": null}"#, &[2, 3, 4, 5]),
    (r#"{"tags": null}"#, &[0, 1, 4, 5]),
    (r#"{"tag": {"$exists": true}}"#, &[0, 1, 5]),
    (r#"{"tag": {"$exists": false}}"#, &[2, 3, 4]),
    (r#"{"a.b": 1}"#, &[0, 1]),
    (r#"{"a": {"b": 1}}"#, &[0, 1]),
    (r#"{"a.b": {"$gt": 1}}"#, &[1]),
    (r#"{"a.b": "1"}"#, &[2]),
    (r#"{"a.b.c": true}"#, &[5]),
    (r#"{"on": true}"#, &[0]),
    (r#"{"on": {"$in": [false, null]}}"#, &[1, 2, 3, 4, 5]),
    (r#"{"tag": {"$regex": "^r"}}"#, &[0]),
    (r#"{"tag": {"$regex": "^r", "$options": "i"}}"#, &[0, 1]),
    (r#"{"tags": {"$regex": "lu"}}"#, &[2, 4]),
    (r#"{"price": {"$regex": "1"}}"#, &[2]),
    (r#"{"name": {"$regex": "'.*[?]$"}}"#, &[3]),
    (r#"{"name": "O'Neil ?"}"#, &[3]),
    (r#"{"name": "50% \"off\""}"#, &[4]),
    (r#"{"odd ' key?": 1}"#, &[5]),
    (r#"{"1": 1}"#, &[5]),
    (r#"{"$or": [{"tag": "red"}, {"tags": "red"}]}"#, &[0, 2]),
    (r#"{"$and": [{"price": {"$gt": 0}}, {"on": true}]}"#, &[0]),
    (r#"{"$not": {"price": {"$gt": 0}}}"#, &[2, 4, 5]),
    (r#"{"price": {"$not": {"$gt": 0}}}"#, &[2, 4, 5]),
    (
        r#"{"$or": [{"$and": [{"n": 1}, {"n": 2}]}, {"$not": {"n": {"$lt": 5}}}]}"#,
        &[5],
    ),
    (r#"{"tag": "red", "price": {"$lt": 5}}"#, &[]),
    (r#"{"a.b.0": 1}"#, &[1]),
    (r#"{"tags.1": "blue"}"#, &[2]),
    (r#"{"tags": ["red", "blue"]}"#, &[2]),
    (r#"{"tags": {"$eq": []}}"#, &[3]),
    (r#"{"tags": {"$size": 3}}"#, &[4]),
    (r#"{"tags": {"$size": 0}}"#, &[3]),
    (r#"{"tags": {"$all": ["blue", 7]}}"#, &[4]),
    (r#"{"tags": {"$all": []}}"#, &[]),
    (r#"{"tags": {"$elemMatch": {"$gt": 5, "$lt": 9}}}"#, &[4]),
    (r#"{"tags": {"$elemMatch": {"$regex": "^r"}}}"#, &[2]),
    (r#"{"tags": {"$type": "array"}}"#, &[2, 3, 4]),
    (r#"{"tags": {"$type": "null"}}"#, &[4]),
    (r#"{"price": {"$type": "string"}}"#, &[2]),
    (r#"{"price": {"$type": ["double", 2]}}"#, &[1, 2]),
    (r#"{"a.b": {"$type": "object"}}"#, &[5]),
    (
        r#"{"$nor": [{"tag": "red"}, {"tags": "red"}]}"#,
        &[1, 3, 4, 5],
    ),
    (
        r#"{"name": {"$regex": "^o.* # x", "$options": "ix"}}"#,
        &[3],
    ),
    (r#"{"_id": "none"}"#, &[]),
    (r#"{"_id": {"$exists": true}, "n": 1}"#, &[1]),
    (r#"{"_id": {"$gt": "0"}, "n": {"$in": [1, 2]}}"#, &[1, 2]),
    (r#"{"$limit": 2}"#, &[0, 1]),
    (r#"{"$limit": 0}"#, &[]),
    (r#"{"$skip": 4}"#, &[4, 5]),
    (r#"{"$skip": 9}"#, &[]),
    (r#"{"$skip": 1, "$limit": 2, "tag": null}"#, &[3, 4]),
    (r#"{"$sort": {"_id": -1}, "$limit": 2}"#, &[5, 4]),
    (r#"{"$sort": {"_id": -1}, "$skip": 4}"#, &[1, 0]),
    (r#"{"$sort": {"n": -1}}"#, &[5, 4, 3, 2, 1, 0]),
    (r#"{"$sort": {"n": -1}, "$skip": 1, "$limit": 2}"#, &[4, 3]),
    (r#"{"$sort": {"n": -1}, "$skip": 4}"#, &[1, 0]),
    (
        r#"{"price": {"$lt": 30}, "$sort": {"price": 1}}"#,
        &[4, 0, 1, 3],
    ),
    (
        r#"{"price": {"$lt": 30}, "$sort": {"price": -1}}"#,
        &[3, 1, 0, 4],
    ),
    (
        r#"{"n": {"$lt": 4}, "$sort": {"name": 1, "_id": -1}}"#,
        &[2, 1, 0, 3],
    ),
    (
        r#"{"n": {"$lt": 4}, "$sort": {"name": -1, "n": 1}}"#,
        &[3, 0, 1, 2],
    ),
];

/// The filters with and without indexes on what they test.
pub(crate) async fn story(client: &Client, indexed: bool) {
    for collection in if indexed {
        ["plain", "indexed"].as_slice()
    } else {
        &["plain"]
    } {
        for document in documents() {
            client.create(collection, &document).await.unwrap();
        }
        for (query, expected) in FILTERS {
            let found = client.numbers(collection, query).await;
            assert_eq!(found, *expected, "{query} in {collection}");
        }
    }
    ids_and_projections(client).await;
    summaries(client).await;
    more_than_a_page(client).await;
    names_that_come_twice(client).await;
}

/// The last value counts, in a field with an index too.
async fn names_that_come_twice(client: &Client) {
    let documents = [
        r#"{"n": 0, "tag": "first", "tag": "last"}"#,
        r#"{"n": 1, "price": 1000, "price": 5000}"#,
        r#"{"n": 2, "tag": "alone", "tag": ["listed"]}"#,
        r#"{"n": 3, "a": {"b": "first"}, "a": {"b": "last"}}"#,
        r#"{"n": 4, "a": {"b": "outer", "b": "inner"}}"#,
        r#"{"n": 5, "tag": "plain", "\u0074ag": "escaped"}"#,
        r#"{"n": 6, "a": {"b": "lost"}, "a": {"c": 1}}"#,
    ];
    let queries: [(&str, &[i64]); 12] = [
        (r#"{"tag": "last"}"#, &[0]),
        (r#"{"tag": "first"}"#, &[]),
        (r#"{"price": {"$gt": 4000}}"#, &[1]),
        (r#"{"price": 1000}"#, &[]),
        (r#"{"tag": "listed"}"#, &[2]),
        (r#"{"tag": "alone"}"#, &[]),
        (r#"{"a.b": "last"}"#, &[3]),
        (r#"{"a.b": {"$in": ["first", "outer", "lost"]}}"#, &[]),
        (r#"{"a.b": "inner"}"#, &[4]),
        (r#"{"tag": "escaped"}"#, &[5]),
        (r#"{"tag": "plain"}"#, &[]),
        (r#"{"a.c": 1}"#, &[6]),
    ];
    for collection in ["plain", "indexed"] {
        for data in documents {
            let created = client.create_text(collection, data.to_owned()).await;
            created.unwrap();
        }
        for (query, expected) in queries {
            let found = client.numbers(collection, query).await;
            assert_eq!(found, expected, "{query} in {collection}");
            let count = query.replacen('{', r#"{"$count": true, "#, 1);
            let counted = client.query_texts(collection, &count).await.unwrap();
            let number = expected.len();
            assert_eq!(counted[0].1, format!(r#"{{"count":{number}}}"#), "{count}");
        }
    }
}

/// In the order of the values.
async fn summaries(client: &Client) {
    let cases = [
        (json!({"$count": true}), json!([{"count": 6}])),
        (
            json!({"$count": "n", "$skip": 2, "$limit": 3}),
            json!([{"n": 3}]),
        ),
        (json!({"$count": "n", "tag": null}), json!([{"n": 4}])),
        (json!({"$count": "n", "tag": "none"}), json!([{"n": 0}])),
        (
            json!({"$distinct": "tags"}),
            json!([{"value": null}, {"value": 7}, {"value": "blue"}, {"value": "red"}]),
        ),
        (
            json!({"$group": {"_id": "$tag", "n": {"$sum": 1}, "sum": {"$sum": "$price"},
                "mean": {"$avg": "$price"}, "least": {"$min": "$price"}, "most": {"$max": "$price"}}}),
            json!([
                {"_id": null, "n": 4, "sum": 17, "mean": 8.5, "least": -3, "most": "10"},
                {"_id": "Red", "n": 1, "sum": 10.5, "mean": 10.5, "least": 10.5, "most": 10.5},
                {"_id": "red", "n": 1, "sum": 5, "mean": 5.0, "least": 5, "most": 5},
            ]),
        ),
        (
            json!({"$group": {"_id": {"on": "$on"}, "n": {"$count": {}}}, "$skip": 1, "$limit": 1}),
            json!([{"_id": {"on": false}, "n": 1}]),
        ),
    ];
    for (query, expected) in cases {
        let found = client.query("plain", &query.to_string()).await.unwrap();
        let found: Vec<Json> = found.into_iter().map(|(_, data)| data).collect();
        assert_eq!(Json::Array(found), expected, "{query}");
    }
}

async fn ids_and_projections(client: &Client) {
    let found = client.query("plain", r#"{"n": 2}"#).await.unwrap();
    let query = json!({"_id": {"$in": [found[0].0, "other"]}, "$project": {"a.b": 1, "n": 1}});
    let projected = client.query("plain", &query.to_string()).await.unwrap();
    assert_eq!(
        projected,
        [(found[0].0.clone(), json!({"a": {"b": "1"}, "n": 2}))]
    );
    let query = json!({"n": 2, "$project": {"tags": 0, "a": 0}});
    let projected = client.query("plain", &query.to_string()).await.unwrap();
    assert_eq!(projected[0].1, json!({"n": 2, "price": "10"}));
}

/// Pages by number and by size meet without a gap or a repetition, in both orders and from a spool.
async fn more_than_a_page(client: &Client) {
    let padding = [10, 300, 120_000];
    for n in 0..700_i64 {
        let text = "x".repeat(if n < 30 {
            padding[2]
        } else {
            padding[n as usize % 2]
        });
        client
            .create("pages", &json!({"n": n, "text": text}))
            .await
            .unwrap();
    }
    let all: Vec<i64> = (0..700).collect();
    let reversed: Vec<i64> = all.iter().rev().copied().collect();
    assert_eq!(client.numbers("pages", "").await, all);
    assert_eq!(
        client.numbers("pages", r#"{"$sort": {"_id": -1}}"#).await,
        reversed
    );
    assert_eq!(client.numbers("pages", r#"{"$sort": {"n": 1}}"#).await, all);
    assert_eq!(
        client.numbers("pages", r#"{"$sort": {"n": -1}}"#).await,
        reversed
    );
    let limited = client
        .numbers("pages", r#"{"$skip": 100, "$limit": 300}"#)
        .await;
    assert_eq!(limited, all[100..400]);
}

/// What an index of one engine cannot have as its key by default.
pub(crate) async fn long_texts(client: &Client) {
    let long = json!({"tag": "x".repeat(100)}).to_string();
    client.create_text("indexed", long).await.unwrap();
}
