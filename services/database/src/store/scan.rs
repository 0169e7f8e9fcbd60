//! The results of a query, in constant memory, as fast as the caller takes them.
//!
//! No connection and no transaction is held between pages. In the order of ids, a page begins where the last one
//! ended, and the query ends at the document that was the newest at its start. In any other order, and where an index finds
//! the documents in an order of its own, the ids are written to a temporary file first. A document that is changed or removed meanwhile is
//! returned as it is when its page is read, or not at all.
//!
//! Damaged documents do not hide the others: the engine fails a statement that comes across one, which is then run
//! without them. They are named at the end.

use std::collections::{BTreeSet, HashMap, VecDeque};

use sea_orm::sea_query::{CaseStatement, Expr, NullOrdering, SimpleExpr};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::id_file::IdFile;
use super::{Fault, Store, document};
use crate::indexes::Indexes;
use crate::query::sql::Writer;
use crate::query::{Direction, Field, Query};

/// Bounds what one query holds in memory.
const PAGE: u64 = 256;
const PAGE_BYTES: usize = 256 * 1024;
/// The most damaged documents that are named.
const MOST_NAMED: usize = 100;

/// The state of a query.
#[derive(Debug)]
pub(crate) struct Scan {
    store: Store,
    collection: String,
    query: Query,
    condition: SimpleExpr,
    page: VecDeque<document::Model>,
    rest: Rest,
    /// Damaged documents that the query came across.
    damaged: BTreeSet<String>,
    /// Whether statements leave out what is not JSON.
    careful: bool,
}

/// The results that are left.
#[derive(Debug)]
enum Rest {
    ById {
        last: Option<String>,
        end: String,
        left: u64,
    },
    Listed(IdFile),
    Nothing,
}

impl Store {
    /// Starts a query.
    pub(crate) async fn scan(&self, collection: &str, query: Query) -> Result<Scan, Fault> {
        let mut scan = Scan {
            store: self.clone(),
            collection: collection.to_owned(),
            query,
            condition: Expr::val(true),
            page: VecDeque::new(),
            rest: Rest::Nothing,
            damaged: BTreeSet::new(),
            careful: false,
        };
        let mut started = scan.begin(&self.indexes).await;
        if let Err(Fault::Documents { .. }) = started {
            scan.be_careful().await?;
            started = scan.begin(&Indexes::default()).await;
        }
        started.inspect_err(|fault| self.integrity.consider(fault))?;
        Ok(scan)
    }

    async fn newest(&self, collection: &str) -> Result<Option<String>, Fault> {
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
    /// Finds the first documents, by the indexes that are known.
    async fn begin(&mut self, indexes: &Indexes) -> Result<(), Fault> {
        let writer = || Writer::new(self.store.engine, &self.collection, indexes);
        let (condition, indexed) = writer().condition(&self.query.filter);
        if !self.careful {
            self.condition = condition;
        }
        let by_id = matches!(self.query.sort.as_slice(), [] | [(Field::Id, _)]) && !indexed;
        self.rest = if by_id {
            match self.store.newest(&self.collection).await? {
                Some(end) => Rest::ById {
                    last: None,
                    end,
                    left: self.query.limit.unwrap_or(u64::MAX),
                },
                None => Rest::Nothing,
            }
        } else {
            let keys = self.query.sort.iter();
            let keys = keys
                .map(|(field, direction)| (writer().sort_key(field), *direction))
                .collect();
            let ids = sorted(self.condition.clone(), keys, &self.query)
                .into_tuple::<(String, i64)>()
                .stream(&self.store.connections.scans)
                .await?;
            Rest::Listed(IdFile::write(&self.store.folder, ids).await?)
        };
        Ok(())
    }

    /// Notes the documents of the collection that are not JSON, and leaves them out from now on.
    async fn be_careful(&mut self) -> Result<(), Fault> {
        use sea_orm::sea_query::ExprTrait as _;

        let ids = document::Entity::find()
            .select_only()
            .column(document::Column::Id)
            .filter(document::Column::Collection.eq(&self.collection))
            .filter(Expr::cust("NOT json_valid(data)"))
            .limit(MOST_NAMED as u64)
            .into_tuple::<String>()
            .all(&self.store.connections.scans)
            .await?;
        self.damaged.extend(ids);
        self.careful = true;
        let indexes = Indexes::default();
        let writer = Writer::new(self.store.engine, &self.collection, &indexes);
        let (condition, _) = writer.condition(&self.query.filter);
        let collection = document::Column::Collection.eq(&self.collection);
        self.condition = collection.and(when(Expr::cust("json_valid(data)"), condition));
        Ok(())
    }

    /// The next result: its id and its data, as much of it as the query asks for.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, String)>, Fault> {
        let next = self.advance().await;
        next.inspect_err(|fault| self.store.integrity.consider(fault))
    }

    async fn advance(&mut self) -> Result<Option<(String, String)>, Fault> {
        while self.page.is_empty() {
            let page = match &self.rest {
                Rest::Nothing => return self.end(),
                Rest::ById { .. } => self.page_by_id().await,
                Rest::Listed(_) => self.page_by_list().await,
            };
            self.page = match page {
                Err(Fault::Documents { .. }) if !self.careful => {
                    self.be_careful().await?;
                    continue;
                }
                page => page?,
            };
        }
        let Some(document) = self.page.pop_front() else {
            return Ok(None);
        };
        let data = match &self.query.projection {
            None => document.data,
            Some(projection) => projection
                .apply(&document.data)
                .map_err(|error| Fault::Damaged(format!("document `{}`: {error}", document.id)))?,
        };
        Ok(Some((document.id, data)))
    }

    /// After the last result: names the damaged documents, once.
    fn end(&mut self) -> Result<Option<(String, String)>, Fault> {
        if self.damaged.is_empty() {
            return Ok(None);
        }
        Err(Fault::Documents {
            ids: std::mem::take(&mut self.damaged).into_iter().collect(),
            cause: "found by a query".to_owned(),
        })
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

    async fn page_by_list(&mut self) -> Result<VecDeque<document::Model>, Fault> {
        let Rest::Listed(ids) = &mut self.rest else {
            return Ok(VecDeque::new());
        };
        let page = ids.take(PAGE as usize, PAGE_BYTES).await?;
        if page.is_empty() {
            self.rest = Rest::Nothing;
        }
        self.fetch(page).await
    }

    /// Reads the documents that are still there and still match, in the order of `page`.
    async fn fetch(&mut self, page: Vec<String>) -> Result<VecDeque<document::Model>, Fault> {
        let found = match self.documents(&page).await {
            Err(Fault::Documents { .. }) => self.each(&page).await?,
            found => found?,
        };
        let mut found: HashMap<String, document::Model> = found
            .into_iter()
            .map(|document| (document.id.clone(), document))
            .collect();
        let mut documents = VecDeque::with_capacity(found.len());
        for document in page.iter().filter_map(|id| found.remove(id)) {
            match document.checked() {
                Ok(()) => documents.push_back(document),
                Err(_) => self.note(document.id),
            }
        }
        Ok(documents)
    }

    /// Reads one document at a time, and notes those that fail.
    async fn each(&mut self, page: &[String]) -> Result<Vec<document::Model>, Fault> {
        let mut found = Vec::new();
        for id in page {
            match self.documents(std::slice::from_ref(id)).await {
                Err(Fault::Documents { .. }) => self.note(id.clone()),
                documents => found.extend(documents?),
            }
        }
        Ok(found)
    }

    async fn documents(&self, ids: &[String]) -> Result<Vec<document::Model>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // Within a CASE the condition is evaluated for each document, and the engine cannot use an index on it instead of the ids.
        let documents = document::Entity::find()
            .filter(document::Column::Id.is_in(ids))
            .filter(when(self.condition.clone(), Expr::val(true)))
            .all(&self.store.connections.scans)
            .await?;
        Ok(documents)
    }

    fn note(&mut self, id: String) {
        if self.damaged.len() < MOST_NAMED {
            self.damaged.insert(id);
        }
    }
}

/// `then` where `condition` holds, which is asked first; false elsewhere.
fn when(condition: SimpleExpr, then: SimpleExpr) -> SimpleExpr {
    CaseStatement::new()
        .case(condition, then)
        .finally(Expr::val(false))
        .into()
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait as _, DbBackend, QueryTrait as _, Statement};

    use super::*;
    use crate::store::Location;

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
