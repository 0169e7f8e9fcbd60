//! Which plans the engine makes of queries.

use sea_orm::{DbBackend, QueryTrait as _, Statement};

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
    let rows = store.connections.scans.query_all_raw(statement).await;
    let lines: Vec<String> = rows
        .unwrap()
        .iter()
        .map(|row| row.try_get("", "detail").unwrap())
        .collect();
    lines.join("\n")
}

#[tokio::test]
async fn declared_indexes_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("store.sqlite"));
    // The engine is to know of enough documents, so that it is worth it to choose.
    let store = Store::open(&location, Indexes::default()).await.unwrap();
    let documents = (0..1000).map(|n| {
        let data = format!(r#"{{"label": "{n}", "author": {{"age": {n}}}}}"#);
        store.create("c".to_owned(), data)
    });
    futures::future::try_join_all(documents).await.unwrap();
    store.close().await.unwrap();
    let indexes: Indexes = "c:label,author.age;other:x".parse().unwrap();
    let store = Store::open(&location, indexes.clone()).await.unwrap();
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
