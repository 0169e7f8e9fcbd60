//! The results of a query, in constant memory, as fast as the caller takes them.
//!
//! No connection and no transaction is held between pages. In the order of ids, a page begins where the last one
//! ended, and ends at the youngest document that was there at the start. In any other order, and where an index finds
//! the documents in an order of its own, the ids are spooled first. A document that is changed or removed meanwhile is
//! returned as it is when its page is read, or not at all.

use std::collections::{HashMap, VecDeque};

use sea_orm::sea_query::{CaseStatement, Expr, NullOrdering, SimpleExpr};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::spool::Spool;
use super::{Fault, Store, document};
use crate::query::sql::Writer;
use crate::query::{Direction, Field, Query};

/// Bounds what one query holds in memory.
const PAGE: u64 = 256;
const PAGE_BYTES: usize = 256 * 1024;

/// Where a query stands.
#[derive(Debug)]
pub(crate) struct Scan {
    store: Store,
    query: Query,
    condition: SimpleExpr,
    page: VecDeque<document::Model>,
    rest: Rest,
}

/// What is left of it.
#[derive(Debug)]
enum Rest {
    ById {
        last: Option<String>,
        end: String,
        left: u64,
    },
    Spooled(Spool),
    Nothing,
}

impl Store {
    /// Begins a query.
    pub(crate) async fn scan(&self, collection: &str, query: Query) -> Result<Scan, Fault> {
        let writer = || Writer::new(self.engine, collection, &self.indexes);
        let (condition, indexed) = writer().condition(&query.filter);
        let by_id = matches!(query.sort.as_slice(), [] | [(Field::Id, _)]) && !indexed;
        let rest = if by_id {
            match self.youngest(collection).await? {
                Some(end) => Rest::ById {
                    last: None,
                    end,
                    left: query.limit.unwrap_or(u64::MAX),
                },
                None => Rest::Nothing,
            }
        } else {
            let keys = query
                .sort
                .iter()
                .map(|(field, direction)| (writer().sort_key(field), *direction))
                .collect();
            Rest::Spooled(self.spool(condition.clone(), keys, &query).await?)
        };
        Ok(Scan {
            store: self.clone(),
            query,
            condition,
            page: VecDeque::new(),
            rest,
        })
    }

    async fn youngest(&self, collection: &str) -> Result<Option<String>, Fault> {
        let id = document::Entity::find()
            .select_only()
            .column(document::Column::Id)
            .filter(document::Column::Collection.eq(collection))
            .order_by_desc(document::Column::Id)
            .limit(1)
            .into_tuple::<String>()
            .one(&self.connections.scans)
            .await?;
        Ok(id)
    }

    async fn spool(
        &self,
        condition: SimpleExpr,
        keys: Vec<(SimpleExpr, Direction)>,
        query: &Query,
    ) -> Result<Spool, Fault> {
        let ids = sorted(condition, keys, query)
            .into_tuple::<(String, i64)>()
            .stream(&self.connections.scans)
            .await?;
        Spool::write(&self.folder, ids).await
    }
}

/// Selects the ids and sizes of a query's documents in its order.
///
/// Ties are in the order of ids, the way that the last key is sorted: then an index on that key serves the order.
fn sorted(
    condition: SimpleExpr,
    keys: Vec<(SimpleExpr, Direction)>,
    query: &Query,
) -> Select<document::Entity> {
    let ties = keys
        .last()
        .map_or(Direction::Ascending, |(_, direction)| *direction);
    let select = ids(condition, keys, ties);
    if query.skip == 0 {
        return select.limit(query.limit);
    }
    // SQLite has no offset without a limit.
    select
        .limit(query.limit.unwrap_or(i64::MAX as u64))
        .offset(query.skip)
}

fn ids(
    condition: SimpleExpr,
    keys: Vec<(SimpleExpr, Direction)>,
    ties: Direction,
) -> Select<document::Entity> {
    let mut select = document::Entity::find()
        .select_only()
        .column(document::Column::Id)
        .column_as(Expr::cust("CAST(octet_length(data) AS BIGINT)"), "size")
        .filter(condition);
    for (key, direction) in keys {
        let nulls = match direction {
            Direction::Ascending => NullOrdering::First,
            Direction::Descending => NullOrdering::Last,
        };
        select = select.order_by_with_nulls(key, order(direction), nulls);
    }
    select.order_by(document::Column::Id, order(ties))
}

fn order(direction: Direction) -> Order {
    match direction {
        Direction::Ascending => Order::Asc,
        Direction::Descending => Order::Desc,
    }
}

impl Scan {
    /// The next result: its id and its data, as much of it as the query asks for.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, String)>, Fault> {
        while self.page.is_empty() {
            self.page = match &self.rest {
                Rest::Nothing => return Ok(None),
                Rest::ById { .. } => self.page_by_id().await?,
                Rest::Spooled(_) => self.page_of_spool().await?,
            };
        }
        let Some(document::Model { id, data, .. }) = self.page.pop_front() else {
            return Ok(None);
        };
        let data = match &self.query.projection {
            None => data,
            Some(projection) => projection
                .apply(&data)
                .map_err(|error| Fault::Damaged(format!("document `{id}`: {error}")))?,
        };
        Ok(Some((id, data)))
    }

    /// The next ids in the order of ids, and their documents.
    async fn page_by_id(&mut self) -> Result<VecDeque<document::Model>, Fault> {
        let Rest::ById { last, end, left } = &mut self.rest else {
            return Ok(VecDeque::new());
        };
        let direction = self
            .query
            .sort
            .first()
            .map_or(Direction::Ascending, |(_, direction)| *direction);
        let size = PAGE.min(*left);
        let mut select = ids(self.condition.clone(), Vec::new(), direction)
            .filter(document::Column::Id.lte(end.as_str()))
            .limit(size);
        select = match (last.as_deref(), direction) {
            (None, _) if self.query.skip == 0 => select,
            (None, _) => select.offset(self.query.skip),
            (Some(last), Direction::Ascending) => select.filter(document::Column::Id.gt(last)),
            (Some(last), Direction::Descending) => select.filter(document::Column::Id.lt(last)),
        };
        let found: Vec<(String, i64)> = select
            .into_tuple()
            .all(&self.store.connections.scans)
            .await?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        let all = found.len() as u64;
        for (id, size) in found {
            bytes += size as usize;
            if !page.is_empty() && bytes > PAGE_BYTES {
                break;
            }
            page.push(id);
        }
        let taken = page.len() as u64;
        *left -= taken;
        *last = page.last().cloned();
        if *left == 0 || (taken == all && all < size) {
            self.rest = Rest::Nothing;
        }
        self.fetch(page).await
    }

    async fn page_of_spool(&mut self) -> Result<VecDeque<document::Model>, Fault> {
        let Rest::Spooled(spool) = &mut self.rest else {
            return Ok(VecDeque::new());
        };
        let page = spool.take(PAGE as usize, PAGE_BYTES).await?;
        if page.is_empty() {
            self.rest = Rest::Nothing;
        }
        self.fetch(page).await
    }

    /// Reads the documents that are still there and still match, in the order of `page`.
    async fn fetch(&self, page: Vec<String>) -> Result<VecDeque<document::Model>, Fault> {
        if page.is_empty() {
            return Ok(VecDeque::new());
        }
        // Within a CASE the condition is looked at, and the engine can't take an index for it in place of the ids.
        let matches = CaseStatement::new()
            .case(self.condition.clone(), Expr::val(true))
            .finally(Expr::val(false));
        let mut documents: HashMap<String, document::Model> = document::Entity::find()
            .filter(document::Column::Id.is_in(&page))
            .filter(Expr::expr(matches))
            .all(&self.store.connections.scans)
            .await?
            .into_iter()
            .map(|document| (document.id.clone(), document))
            .collect();
        Ok(page.iter().filter_map(|id| documents.remove(id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait as _, DbBackend, QueryTrait as _, Statement};

    use super::*;
    use crate::store::{Indexes, Location};

    /// The plan of the statement that finds a query's documents.
    async fn plan(store: &Store, query: &str) -> String {
        let query = Query::parse(query).unwrap();
        let writer = || Writer::new(store.engine, "c", &store.indexes);
        let (condition, _) = writer().condition(&query.filter);
        let keys = query
            .sort
            .iter()
            .map(|(field, direction)| (writer().sort_key(field), *direction))
            .collect();
        let mut statement: Statement = sorted(condition, keys, &query).build(DbBackend::Sqlite);
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
            let used = plan.matches("USING INDEX declared_").count();
            assert_eq!(used, uses, "{query}:\n{plan}");
            let sorts = query.contains("$sort") && plan.contains("FOR ORDER BY");
            assert!(!sorts, "{query}:\n{plan}");
        }
        store.close().await.unwrap();
    }
}
