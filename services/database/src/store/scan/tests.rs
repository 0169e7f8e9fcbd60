//! Which plans the engine makes of queries.

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, QueryTrait as _, Statement, TransactionTrait as _};
use uuid::Uuid;

use super::*;
use crate::store::Location;

/// The plan of the statement that finds a query's documents.
async fn plan(store: &Store, query: &str) -> String {
    let query = Query::parse(query).unwrap();
    let writer = || Writer::new(store.engine, "c", &store.indexes);
    let (condition, _) = writer().condition(&query.filter);
    let select = match query.sort.as_slice() {
        [(Field::Path(path), direction)] => {
            in_order(condition, writer().index_key(path), *direction, &query)
        }
        _ => ids(condition),
    };
    let mut statement: Statement = select.build(DbBackend::Sqlite);
    statement.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
    let rows = store
        .connections
        .current()
        .unwrap()
        .scans
        .query_all_raw(statement)
        .await;
    let lines: Vec<String> = rows
        .unwrap()
        .iter()
        .map(|row| row.try_get("", "detail").unwrap())
        .collect();
    lines.join("\n")
}

/// With so many documents that the engine knows that it is worth it to choose.
async fn filled(location: &Location, documents: usize) -> Store {
    let store = Store::open(location, Indexes::default()).await.unwrap();
    let documents = (0..documents).map(|n| {
        let half = n % 2 == 0;
        let data = format!(r#"{{"label": "{n}", "author": {{"age": {n}}}, "half": {half}}}"#);
        store.create("c".to_owned(), data)
    });
    futures::future::try_join_all(documents).await.unwrap();
    store.close().await.unwrap();
    let indexes: Indexes = "c:label,author.age,half;other:x".parse().unwrap();
    Store::open(location, indexes).await.unwrap()
}

/// While all connections for scans are in use, for longer than any test takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_few_documents_does_not_wait_for_scans() {
    const LIMIT: Duration = Duration::from_secs(10);
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let documents = 2 * find::FEW as usize + 10;
    let store = filled(&location, documents).await;
    let pools = store.connections.current().unwrap();
    let scans = &pools.scans;
    let mut held = Vec::new();
    for _ in 0..crate::store::engine::SCANS {
        held.push(scans.begin().await.unwrap());
    }
    let table = [
        (r#"{"_id": "none"}"#, 0),
        (r#"{"_id": {"$gt": ""}, "$limit": 100}"#, 100),
        (r#"{"$limit": 3}"#, 3),
        (r#"{"$sort": {"_id": -1}, "$skip": 1000, "$limit": 3}"#, 3),
        (r#"{"$sort": {"label": -1}, "$limit": 3}"#, 3),
        (r#"{"label": "7"}"#, 1),
        (r#"{"label": {"$in": ["7", "8", "x"]}, "other": null}"#, 2),
        (
            r#"{"author.age": {"$lt": 300}, "$sort": {"other": 1}}"#,
            300,
        ),
        (r#"{"author.age": {"$lt": 300}, "$count": true}"#, 1),
        (r#"{"half": true, "label": "7"}"#, 0),
        (r#"{"$or": [{"label": "7"}, {"_id": "none"}]}"#, 1),
    ];
    for (query, expected) in table {
        let found = tokio::time::timeout(LIMIT, results(&store, query)).await;
        assert_eq!(found.map(|found| found.len()), Ok(expected), "{query}");
    }
    drop(held);
    for query in [
        "",
        r#"{"$limit": 5000}"#,
        r#"{"half": true}"#,
        r#"{"other": 1, "$limit": 1}"#,
        r#"{"$or": [{"label": "7"}, {"half": true}]}"#,
        r#"{"label": {"$ne": "7"}}"#,
    ] {
        let scan = store.scan("c", Query::parse(query).unwrap()).await.unwrap();
        assert_eq!(scan.lane, Lane::Scans, "{query}");
    }
    store.close().await.unwrap();
}

async fn results(store: &Store, query: &str) -> Vec<String> {
    let mut scan = store.scan("c", Query::parse(query).unwrap()).await.unwrap();
    let mut found = Vec::new();
    while let Some((_, data)) = scan.next().await.unwrap() {
        found.push(data);
    }
    found
}

/// Which counts the engine answers, and that they are those of the documents.
#[tokio::test]
async fn the_engine_counts_what_an_index_covers() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let store = filled(&location, 1000).await;
    let table = [
        (r#"{}"#, true),
        (r#"{"label": "7"}"#, true),
        (r#"{"label": {"$in": ["7", "8", "none"]}}"#, true),
        (r#"{"label": {"$gt": "7", "$lte": "8"}}"#, true),
        (r#"{"author.age": {"$gte": 10, "$lt": 20.5}}"#, true),
        (
            r#"{"$or": [{"author.age": {"$gt": 990}}, {"author.age": 3}]}"#,
            true,
        ),
        (r#"{"author.age": {"$gt": 1e300}}"#, false),
        (r#"{"author.age": {"$gt": 5}, "label": "7"}"#, false),
        (r#"{"author.age": {"$ne": 5}}"#, false),
        (r#"{"label": null}"#, false),
        (r#"{"half": true}"#, false),
        (r#"{"half": 1}"#, false),
        (r#"{"other": 1}"#, false),
    ];
    let check = async |query: &str, counted: bool| {
        let count = query
            .replacen('{', r#"{"$count": true, "#, 1)
            .replace(", }", "}");
        let scan = store
            .scan("c", Query::parse(&count).unwrap())
            .await
            .unwrap();
        assert_eq!(matches!(scan.rest, Rest::Counted(_)), counted, "{query}");
        let number = results(&store, query).await.len();
        let expected = format!(r#"{{"count":{number}}}"#);
        assert_eq!(results(&store, &count).await, [expected], "{query}");
    };
    for (query, counted) in table {
        check(query, counted).await;
    }
    for (odd, query) in [
        (r#"{"label": ["7"]}"#, r#"{"label": "7"}"#),
        (r#"{"label": "7", "label": "8"}"#, r#"{"label": "7"}"#),
        (r#"{"label": "8", "la\u0062el": "7"}"#, r#"{"label": "7"}"#),
        (r#"{"author": [{"age": 3}]}"#, r#"{"author.age": 3}"#),
        (
            r#"{"author": {"age": 3, "age": 4}}"#,
            r#"{"author.age": 3}"#,
        ),
        (
            r#"{"author": {"age": 3}, "author": {}}"#,
            r#"{"author.age": 3}"#,
        ),
        (
            r#"{"author": 3, "author": {"age": 3}}"#,
            r#"{"author.age": 3}"#,
        ),
    ] {
        let id = store.create("c".to_owned(), odd.to_owned()).await.unwrap();
        check(query, false).await;
        store.delete("c".to_owned(), id).await.unwrap();
        check(query, true).await;
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn declared_indexes_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let store = filled(&location, 1000).await;
    let indexes = Indexes::clone(&store.indexes);
    // An explanation does not notice what other connections made since this one read the schema.
    store.close().await.unwrap();
    let store = Store::open(&location, indexes).await.unwrap();
    let table = [
        (r#"{"label": "a"}"#, 2),
        (r#"{"label": {"$in": ["a", "b"]}}"#, 2),
        (r#"{"author.age": {"$gte": 990}}"#, 2),
        (r#"{"author": {"age": 18}, "other": 1}"#, 2),
        (r#"{"$or": [{"label": "a"}, {"author.age": 1}]}"#, 4),
        (r#"{"$sort": {"label": 1}, "$limit": 10}"#, 1),
        (r#"{"$sort": {"author.age": -1}, "$limit": 10}"#, 1),
        (r#"{"label": {"$ne": "a"}}"#, 0),
        (r#"{"other": 1}"#, 0),
        (r#"{"x": 1}"#, 0),
    ];
    for (query, uses) in table {
        let plan = plan(&store, query).await;
        let used = plan.matches("INDEX declared_").count();
        assert_eq!(used, uses, "{query}:\n{plan}");
        let sorts = query.contains("$sort") && plan.contains("FOR ORDER BY");
        assert!(!sorts, "{query}:\n{plan}");
    }
    store.close().await.unwrap();
}

/// An index that an earlier version made does not know documents with a name that comes twice.
#[tokio::test]
async fn indexes_of_earlier_versions_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let indexes: Indexes = "c:label".parse().unwrap();
    let store = Store::open(&location, indexes.clone()).await.unwrap();
    let pools = store.connections.current().unwrap();
    let writes = &pools.writes;
    let list = "SELECT name FROM sqlite_master WHERE name LIKE 'declared%' ORDER BY name";
    let names = async |store: &Store| {
        let list = Statement::from_string(DbBackend::Sqlite, list);
        let rows = store
            .connections
            .current()
            .unwrap()
            .writes
            .query_all_raw(list)
            .await
            .unwrap();
        let names = rows.iter().map(|row| row.try_get_by_index(0).unwrap());
        names.collect::<Vec<String>>()
    };
    let own = names(&store).await;
    for name in &own {
        let drop = format!("DROP INDEX {name}");
        writes.execute_unprepared(&drop).await.unwrap();
    }
    // As the version before made and named them.
    let (key, kind) = (
        "json_extract(data, '$.\"label\"')",
        "json_type(data, '$.\"label\"')",
    );
    let arrays = format!("({kind} = 'array')");
    let field = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"c:label").simple();
    let odd = format!(
        "({arrays} OR {kind} IN ('object', 'true', 'false') \
         OR {kind} = 'integer' AND typeof({key}) = 'real')"
    );
    for (part, keys, only) in [
        ("value", format!("({key}), id"), String::new()),
        (
            "arrays",
            format!("({arrays}), id"),
            format!(" AND {arrays}"),
        ),
        ("odd", format!("({odd}), id"), format!(" AND {odd}")),
    ] {
        let create = format!(
            "CREATE INDEX declared_{field}_{part} ON documents ({keys}) \
             WHERE collection = 'c'{only}"
        );
        writes.execute_unprepared(&create).await.unwrap();
    }
    let data = r#"{"label": "first", "label": "last"}"#;
    store.create("c".to_owned(), data.to_owned()).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&location, indexes).await.unwrap();
    assert_eq!(names(&store).await, own);
    assert_eq!(results(&store, r#"{"label": "last"}"#).await, [data]);
    assert!(results(&store, r#"{"label": "first"}"#).await.is_empty());
    store.close().await.unwrap();
}

/// As many values, and as many parts, as a query's text has room for.
#[tokio::test]
async fn long_lists_and_many_parts_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let store = filled(&location, 5000).await;
    let list = |count: usize, one: &dyn Fn(usize) -> String| {
        let all: Vec<_> = (0..count).map(one).collect();
        all.join(",")
    };
    let digit = |n: usize| (n % 10).to_string();
    let table = [
        (
            format!(r#"{{"author.age":{{"$in":[{}]}}}}"#, list(32_000, &digit)),
            10,
        ),
        (
            format!(
                r#"{{"label":{{"$in":[{}]}}}}"#,
                list(8000, &|n| format!("\"{n}\""))
            ),
            5000,
        ),
        (
            format!(
                r#"{{"_id":{{"$in":[{}]}}}}"#,
                list(16_000, &|n| format!("\"{}\"", n % 10))
            ),
            0,
        ),
        (
            format!(
                r#"{{"$or":[{}]}}"#,
                list(4000, &|n| format!(r#"{{"_id":"{}"}}"#, n % 10))
            ),
            0,
        ),
        (
            format!(
                r#"{{"$or":[{}]}}"#,
                list(2500, &|n| format!(r#"{{"label":"{n}"}}"#))
            ),
            2500,
        ),
        (
            format!(
                r#"{{"$or":[{}]}}"#,
                list(256, &|n| format!(r#"{{"label":"{n}"}}"#))
            ),
            256,
        ),
        (
            format!(
                r#"{{"$and":[{}]}}"#,
                list(3000, &|_| r#"{"label":"7"}"#.to_owned())
            ),
            1,
        ),
        (
            format!(
                r#"{{"$nor":[{}]}}"#,
                list(2500, &|n| format!(r#"{{"label":"{n}"}}"#))
            ),
            2500,
        ),
    ];
    for (query, expected) in table {
        let start = &query[..20];
        assert_eq!(results(&store, &query).await.len(), expected, "{start}");
        let count = query.replacen('{', r#"{"$count":true,"#, 1);
        let expected = format!(r#"{{"count":{expected}}}"#);
        assert_eq!(results(&store, &count).await, [expected], "{start}");
    }
    store.close().await.unwrap();
}

/// The tables, indexes and triggers of text indexes.
async fn text_indexes(store: &Store) -> usize {
    let list = "SELECT name FROM sqlite_master WHERE name LIKE 'text\\_%' ESCAPE '\\'";
    let statement = Statement::from_string(DbBackend::Sqlite, list);
    let rows = store
        .connections
        .current()
        .unwrap()
        .scans
        .query_all_raw(statement)
        .await;
    rows.unwrap().len()
}

async fn found(store: &Store, query: &str) -> (Lane, usize) {
    let mut query = Query::parse(query).unwrap();
    query.use_text_index("c", store.indexes()).unwrap();
    let mut scan = store.scan("c", query).await.unwrap();
    let mut number = 0;
    while scan.next().await.unwrap().is_some() {
        number += 1;
    }
    (scan.lane, number)
}

#[tokio::test]
async fn a_text_index_is_filled_used_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let documents = 2 * find::FEW as usize + 10;
    let store = filled(&location, documents).await;
    assert_eq!(text_indexes(&store).await, 0);
    store.close().await.unwrap();

    let indexes: Indexes = "c:label:text".parse().unwrap();
    let store = Store::open(&location, indexes.clone()).await.unwrap();
    let name = &indexes.text("c").unwrap().name;
    let others = format!("SELECT count(*) FROM {name}_ids WHERE indexed = FALSE");
    let others = async |store: &Store| -> i64 {
        let statement = Statement::from_string(DbBackend::Sqlite, others.as_str());
        let row = store
            .connections
            .current()
            .unwrap()
            .writes
            .query_one_raw(statement)
            .await;
        row.unwrap().unwrap().try_get_by_index(0).unwrap()
    };
    assert_eq!(others(&store).await, 0);
    let seven = r#"{"$text": {"$search": "7 8"}}"#;
    assert_eq!(found(&store, seven).await, (Lane::Reads, 2));
    // Another program does not know of words: what it writes is found too, and is in the index after a restart.
    for change in [
        r#"INSERT INTO documents VALUES ('~', 'c', '{"label": "7"}')"#,
        r#"UPDATE documents SET data = '{"label": "x"}' WHERE data LIKE '%"8"%'"#,
    ] {
        let pools = store.connections.current().unwrap();
        let writes = &pools.writes;
        writes.execute_unprepared(change).await.unwrap();
    }
    assert_eq!(others(&store).await, 2);
    assert_eq!(found(&store, seven).await, (Lane::Reads, 2));
    store.close().await.unwrap();
    let store = Store::open(&location, indexes.clone()).await.unwrap();
    assert_eq!(others(&store).await, 0);
    assert_eq!(found(&store, seven).await, (Lane::Reads, 2));
    store.close().await.unwrap();

    // A filling that was interrupted continues.
    let late = r#"{"$text": {"$search": "7 8000"}}"#;
    let store = Store::open(&location, indexes.clone()).await.unwrap();
    let interrupted = format!(
        "DELETE FROM {name} WHERE rowid > 1000;
         UPDATE {name}_ids SET indexed = FALSE WHERE number > 1000;"
    );
    let pools = store.connections.current().unwrap();
    let writes = &pools.writes;
    writes.execute_unprepared(&interrupted).await.unwrap();
    assert_eq!(found(&store, late).await, (Lane::Scans, 3));
    store.close().await.unwrap();
    let store = Store::open(&location, indexes).await.unwrap();
    assert_eq!(others(&store).await, 0);
    assert_eq!(found(&store, late).await, (Lane::Reads, 3));
    store.close().await.unwrap();

    // Other fields are another index.
    let indexes: Indexes = "c:x:text".parse().unwrap();
    let store = Store::open(&location, indexes).await.unwrap();
    assert_eq!(found(&store, seven).await.1, 0);
    store.close().await.unwrap();
    let store = Store::open(&location, Indexes::default()).await.unwrap();
    assert_eq!(text_indexes(&store).await, 0);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_long_document_does_not_hold_up_other_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    let indexes: Indexes = "c:text:text".parse().unwrap();
    let store = Store::open(&location, indexes.clone()).await.unwrap();
    let data = format!(r#"{{"text": "{}"}}"#, "é ".repeat(1 << 20));
    let began = Instant::now();
    crate::query::index_entry(indexes.text("c").unwrap(), &data).unwrap();
    let alone = began.elapsed();

    let (end, mut ended) = tokio::sync::oneshot::channel::<()>();
    let pauses = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while ended.try_recv().is_err() {
            ticks.tick().await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    });
    store.create("c".to_owned(), data).await.unwrap();
    let search = r#"{"$text": {"$search": "e"}}"#;
    assert_eq!(found(&store, search).await, (Lane::Reads, 1));
    end.send(()).unwrap();
    let longest = pauses.await.unwrap();
    assert!(longest < alone / 2, "{longest:?} of {alone:?}");
    store.close().await.unwrap();
}
