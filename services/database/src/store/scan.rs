//! The results of a query, in constant memory, as fast as the caller takes them.
//!
//! ```text
//! the collection, or what an index finds -> slices of documents -> those that match -> the caller
//!                                                |  $sort: their ids, sorted         ^
//!                                                +-----------------------------------+
//! ```
//! A collection is read in slices, each by a short statement. Between them no connection and no transaction is held: all
//! queries take turns, and one that nobody waits for ends with its slice. In the order of ids, a slice begins where the
//! last one ended, and the query ends at the document that was the newest at its start. In any other order, and where an
//! index finds the documents, the ids are written to a temporary file first. A document that is changed or removed meanwhile
//! is returned as it is when its slice is read, or not at all.
//!
//! Damaged documents do not hide the others: they are left out, and named at the end.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{BufWriter, Seek as _, Write as _};
use std::sync::Arc;

use sea_orm::sea_query::{Expr, ExprTrait as _, NullOrdering, SimpleExpr};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use self::find::Lane;
use super::engine::Pools;
use super::id_file::{self, IdFile};
use super::slices::{FIRST_SLICE, Open, SLICE, Slices, order};
use super::sorter::{Entry, Sorter};
use super::{Fault, Store, document};
use crate::indexes::Indexes;
use crate::query::sql::Writer;
use crate::query::value::Value;
use crate::query::{Direction, Field, Query};

/// The most documents of a list that are read at once.
const PAGE: usize = 256;
/// The most damaged documents that are named.
const MOST_NAMED: usize = 100;

type Document = (String, String);

/// The state of a query.
#[derive(Debug)]
pub(crate) struct Scan {
    store: Store,
    /// The connections of the present step.
    pools: Arc<Pools>,
    collection: String,
    query: Query,
    /// The members of documents that the filter and the order read.
    wanted: BTreeSet<String>,
    condition: SimpleExpr,
    lane: Lane,
    page: VecDeque<Document>,
    rest: Rest,
    /// Of the documents that match.
    skip: u64,
    left: u64,
    /// Damaged documents that the query came across.
    damaged: BTreeSet<String>,
    open: Open,
}

/// The documents that are left to look at.
#[derive(Debug)]
enum Rest {
    Slices(Slices),
    Listed(IdFile),
    /// The engine knows their number, which is all that is asked for.
    Counted(u64),
    Nothing,
}

impl Store {
    /// Starts a query.
    pub(crate) async fn scan(&self, collection: &str, query: Query) -> Result<Scan, Fault> {
        let mut wanted = BTreeSet::new();
        query.filter.wanted(&mut wanted);
        let sorted = query.sort.iter().filter_map(|(field, _)| field.member());
        wanted.extend(sorted.map(str::to_owned));
        if let Some(summary) = &query.summary {
            summary.wanted(&mut wanted);
        }
        let mut scan = Scan {
            store: self.clone(),
            pools: self.connections.current()?,
            collection: collection.to_owned(),
            wanted,
            condition: Expr::val(true),
            lane: Lane::Scans,
            page: VecDeque::new(),
            rest: Rest::Nothing,
            skip: query.skip,
            left: query.limit.unwrap_or(u64::MAX),
            damaged: BTreeSet::new(),
            query,
            open: Open::new(&self.open),
        };
        let pools = scan.pools.clone();
        let mut started = pools.run(scan.begin(&self.indexes)).await;
        if let Err(Fault::Documents { .. }) = started {
            // The engine comes across a damaged document only where it looks into them.
            started = pools.run(scan.begin(&Indexes::default())).await;
        }
        started.inspect_err(|fault| self.integrity.consider(fault))?;
        Ok(scan)
    }
}

/// Ids and sizes of the documents that satisfy a condition.
fn ids(condition: SimpleExpr) -> sea_orm::Select<document::Entity> {
    document::Entity::find()
        .select_only()
        .column(document::Column::Id)
        .column_as(Expr::cust("CAST(octet_length(data) AS BIGINT)"), "size")
        .filter(condition)
}

/// The ids in the order of a declared index, of which only the end of the list that is asked for is read.
fn in_order(
    condition: SimpleExpr,
    key: String,
    direction: Direction,
    query: &Query,
) -> sea_orm::Select<document::Entity> {
    let nulls = match direction {
        Direction::Ascending => NullOrdering::First,
        Direction::Descending => NullOrdering::Last,
    };
    let select = ids(condition)
        .order_by_with_nulls(Expr::cust(key), order(direction), nulls)
        .order_by(document::Column::Id, order(direction));
    match query.skip {
        0 => select.limit(query.limit),
        // SQLite has no offset without a limit.
        skip => select
            .limit(query.limit.unwrap_or(i64::MAX as u64))
            .offset(skip),
    }
}

impl Scan {
    /// Finds the first documents, by the indexes that are known.
    async fn begin(&mut self, indexes: &Indexes) -> Result<(), Fault> {
        let found = self.find(indexes).await?;
        let indexed = found.indexed;
        self.condition = found.condition;
        self.lane = match found.few {
            true => Lane::Reads,
            false => Lane::Scans,
        };
        if let Some(number) = self.counted(indexes).await? {
            self.rest = Rest::Counted(number);
            return Ok(());
        }
        let by_id = match self.query.sort.as_slice() {
            [] => Some(Direction::Ascending),
            [(Field::Id, direction), ..] => Some(*direction),
            _ => None,
        };
        match by_id {
            Some(direction) if indexed => {
                let ids = ids(self.condition.clone());
                let ids = ids.order_by(document::Column::Id, order(direction));
                self.rest = self.listed(ids).await?;
            }
            Some(direction) => {
                if self.first_few() {
                    self.lane = Lane::Reads;
                }
                self.rest = self.slices(direction).await?;
                self.jump().await?;
            }
            None => self.begin_sorted(indexes, indexed).await?,
        }
        Ok(())
    }

    async fn begin_sorted(&mut self, indexes: &Indexes, indexed: bool) -> Result<(), Fault> {
        self.rest = match self.served_order(indexes).await? {
            Some((key, direction)) => {
                if self.first_few() {
                    self.lane = Lane::Reads;
                }
                let ids = in_order(self.condition.clone(), key, direction, &self.query);
                self.listed(ids).await?
            }
            None => {
                self.rest = match indexed {
                    true => self.listed(ids(self.condition.clone())).await?,
                    false => self.slices(Direction::Ascending).await?,
                };
                self.sorted().await?
            }
        };
        (self.skip, self.left) = (0, u64::MAX);
        Ok(())
    }

    /// The order that a declared index serves: of all documents, if the engine sorts them all as they should be.
    async fn served_order(&self, indexes: &Indexes) -> Result<Option<(String, Direction)>, Fault> {
        let [(Field::Path(path), direction)] = self.query.sort.as_slice() else {
            return Ok(None);
        };
        if !indexes.has(&self.collection, path) || !self.query.filter.is_empty() {
            return Ok(None);
        }
        let writer = Writer::new(self.store.engine, &self.collection, indexes);
        let served = !self.any(indexes, &writer.is_odd(path)).await?;
        Ok(served.then(|| (writer.index_key(path), *direction)))
    }

    async fn listed(&self, ids: sea_orm::Select<document::Entity>) -> Result<Rest, Fault> {
        let ids = ids.into_tuple::<(String, i64)>();
        let ids = ids.stream(self.lane.of(&self.pools)).await?;
        Ok(Rest::Listed(IdFile::write(&self.store.folder, ids).await?))
    }

    async fn slices(&self, direction: Direction) -> Result<Rest, Fault> {
        let newest = document::Entity::find()
            .select_only()
            .column(document::Column::Id)
            .filter(document::Column::Collection.eq(&self.collection))
            .order_by_desc(document::Column::Id)
            .limit(1)
            .into_tuple::<String>()
            .one(self.lane.of(&self.pools))
            .await?;
        Ok(match newest {
            Some(end) => Rest::Slices(Slices {
                last: None,
                end,
                direction,
                rows: FIRST_SLICE,
            }),
            None => Rest::Nothing,
        })
    }

    /// Leaves out the first documents without reading them, if all match.
    async fn jump(&mut self) -> Result<(), Fault> {
        let summed = self.query.summary.is_some();
        if self.skip == 0 || summed || !self.query.filter.is_empty() {
            return Ok(());
        }
        let Rest::Slices(slices) = &mut self.rest else {
            return Ok(());
        };
        let last = document::Entity::find()
            .select_only()
            .column(document::Column::Id)
            .filter(slices.condition(&self.condition))
            .order_by(document::Column::Id, order(slices.direction))
            .offset(self.skip - 1)
            .limit(1)
            .into_tuple::<String>()
            .one(self.lane.of(&self.pools))
            .await?;
        self.skip = 0;
        match last {
            Some(last) => slices.last = Some(last),
            None => self.rest = Rest::Nothing,
        }
        Ok(())
    }

    /// Sorts the documents that match.
    async fn sorted(&mut self) -> Result<Rest, Fault> {
        let most = self.skip.saturating_add(self.left) as usize;
        let mut sorter = Sorter::new(self.store.folder.clone(), most);
        let ties = self.query.sort.last().map(|(_, direction)| *direction);
        while let Some(documents) = self.matching().await? {
            for (id, members, data) in documents {
                let mut key = Vec::new();
                for (field, direction) in &self.query.sort {
                    write_key(&mut key, &field.of(&id, &members), *direction);
                }
                let tie = Value::Text(id.clone());
                write_key(&mut key, &tie, ties.unwrap_or(Direction::Ascending));
                let size = data.len();
                let entry = Entry { key, id, size };
                sorter.add(entry).map_err(id_file::failed)?;
            }
        }
        let (skip, folder) = (self.skip as usize, self.store.folder.clone());
        let merge = move || {
            let mut file = BufWriter::new(tempfile::tempfile_in(folder)?);
            sorter.finish(skip, |Entry { id, size, .. }| writeln!(file, "{id} {size}"))?;
            let mut file = file.into_inner()?;
            file.rewind()?;
            Ok(file)
        };
        let merged = tokio::task::spawn_blocking(merge).await;
        let merged = merged.map_err(|error| Fault::Failed(format!("failed to sort: {error}")))?;
        Ok(Rest::Listed(IdFile::of(merged.map_err(id_file::failed)?)))
    }

    /// The next result: its id and its data, as much of it as the query asks for.
    pub(crate) async fn next(&mut self) -> Result<Option<Document>, Fault> {
        let next = self.advance().await;
        next.inspect_err(|fault| self.store.integrity.consider(fault))
    }

    async fn advance(&mut self) -> Result<Option<Document>, Fault> {
        if let Some(summary) = self.query.summary.take() {
            self.summarize(&summary).await?;
        }
        while self.page.is_empty() {
            if self.left == 0 {
                self.rest = Rest::Nothing;
            }
            let Some(documents) = self.matching().await? else {
                return self.end();
            };
            for (id, _, data) in documents {
                if self.skip > 0 {
                    self.skip -= 1;
                } else if self.left > 0 {
                    self.left -= 1;
                    self.page.push_back((id, data));
                }
            }
        }
        let Some((id, data)) = self.page.pop_front() else {
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

    /// After the last result: names the damaged documents, once.
    fn end(&mut self) -> Result<Option<Document>, Fault> {
        if self.damaged.is_empty() {
            return Ok(None);
        }
        Err(Fault::Documents {
            ids: std::mem::take(&mut self.damaged).into_iter().collect(),
            cause: "found by a query".to_owned(),
        })
    }

    /// The next documents in the order of ids.
    async fn slice(&mut self) -> Result<Vec<Document>, Fault> {
        let Rest::Slices(slices) = &mut self.rest else {
            return Ok(Vec::new());
        };
        let most = self.open.bytes();
        if self.query.filter.is_empty() && self.query.sort.is_empty() {
            slices.rows = std::cmp::min(slices.rows, std::cmp::max(self.left, 1));
        }
        let connection = self.lane.of(&self.pools);
        let (last, number) = loop {
            let measure = slices.measure(&self.condition);
            let measure = connection.get_database_backend().build(&measure);
            let row = connection.query_one_raw(measure).await?;
            let Some(row) = row else {
                break (None, 0);
            };
            let (number, size): (i64, i64) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            if size as usize > most && number > 1 {
                let fitting = number as u64 * most as u64 / size as u64;
                slices.rows = fitting.clamp(1, number as u64 - 1);
                continue;
            }
            let last: Option<String> = row.try_get_by_index(match slices.direction {
                Direction::Ascending => 0,
                Direction::Descending => 1,
            })?;
            break (last, number as u64);
        };
        let Some(last) = last else {
            self.rest = Rest::Nothing;
            return Ok(Vec::new());
        };
        let condition = slices.condition(&self.condition);
        let condition = condition.and(match slices.direction {
            Direction::Ascending => document::Column::Id.lte(last.as_str()),
            Direction::Descending => document::Column::Id.gte(last.as_str()),
        });
        let direction = slices.direction;
        if number < slices.rows {
            self.rest = Rest::Nothing;
        } else {
            slices.last = Some(last);
            slices.rows = std::cmp::min(slices.rows * 2, SLICE);
        }
        match self.documents(condition.clone(), direction).await {
            Err(Fault::Documents { .. }) => {
                let ids = ids(condition).order_by(document::Column::Id, order(direction));
                let ids = ids.into_tuple::<(String, i64)>();
                let ids = ids.all(self.lane.of(&self.pools)).await?;
                self.each(ids.into_iter().map(|(id, _)| id)).await
            }
            documents => documents,
        }
    }

    async fn page_by_list(&mut self) -> Result<Vec<Document>, Fault> {
        let most = self.open.bytes();
        let Rest::Listed(ids) = &mut self.rest else {
            return Ok(Vec::new());
        };
        let page = ids.take(PAGE, most).await?;
        if page.is_empty() {
            self.rest = Rest::Nothing;
            return Ok(Vec::new());
        }
        let collection = document::Column::Collection.eq(&self.collection);
        let condition = collection.and(document::Column::Id.is_in(&page));
        let found = match self.documents(condition, Direction::Ascending).await {
            Err(Fault::Documents { .. }) => self.each(page.iter().cloned()).await?,
            found => found?,
        };
        let mut found: HashMap<String, String> = found.into_iter().collect();
        let found = page.into_iter().filter_map(|id| found.remove_entry(&id));
        Ok(found.collect())
    }

    /// Reads one document at a time, and notes those that fail.
    async fn each(&mut self, ids: impl Iterator<Item = String>) -> Result<Vec<Document>, Fault> {
        let mut found = Vec::new();
        for id in ids {
            let condition = document::Column::Id.eq(&id);
            match self.documents(condition, Direction::Ascending).await {
                Err(Fault::Documents { .. }) => self.note(id),
                documents => found.extend(documents?),
            }
        }
        Ok(found)
    }

    async fn documents(
        &self,
        condition: SimpleExpr,
        direction: Direction,
    ) -> Result<Vec<Document>, Fault> {
        let documents = document::Entity::find()
            .select_only()
            .column(document::Column::Id)
            .column(document::Column::Data)
            .filter(condition)
            .order_by(document::Column::Id, order(direction))
            .into_tuple()
            .all(self.lane.of(&self.pools))
            .await?;
        Ok(documents)
    }

    fn note(&mut self, id: String) {
        if self.damaged.len() < MOST_NAMED {
            self.damaged.insert(id);
        }
    }
}

/// Bytes whose order is the one asked for.
fn write_key(key: &mut Vec<u8>, value: &Value, direction: Direction) {
    let start = key.len();
    value.write_key(key);
    if direction == Direction::Descending {
        key[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

mod find;
mod look;
mod summarize;
#[cfg(test)]
mod tests;
