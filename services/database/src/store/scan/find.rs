//! How a query finds its documents, and which connections it uses: a quick query does not wait for others.

use sea_orm::sea_query::{self, Expr, SimpleExpr};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _,
};

use super::{Fault, Scan, document, ids};
use crate::indexes::Indexes;
use crate::query::sql::Writer;
use crate::query::{Filter, Query, Summary};
use crate::store::engine::Pools;

/// The most documents, and entries of an index, that a query may read beside reads by id.
pub(super) const FEW: u64 = 4096;
/// The most parts of a filter whose entries are counted.
const PARTS: usize = 16;

/// Which connections a query uses: one that is quick does not wait for those that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Reads,
    Scans,
}

/// How the documents are found.
pub(super) struct Found {
    pub(super) condition: SimpleExpr,
    /// Whether a declared index serves it.
    pub(super) indexed: bool,
    /// Whether they are few, independent of the collection's size.
    pub(super) few: bool,
}

impl Lane {
    pub(super) fn of(self, pools: &Pools) -> &DatabaseConnection {
        match self {
            Self::Reads => &pools.reads,
            Self::Scans => &pools.scans,
        }
    }
}

impl Scan {
    /// Chooses how to find the documents: by that part of the filter of which the indexes have few entries, if there is
    /// one. The other parts are left to [`Self::matching`].
    pub(super) async fn find(&self, indexes: &Indexes) -> Result<Found, Fault> {
        let writer = || Writer::new(self.store.engine, &self.collection, indexes);
        let found = |filter: &Filter, few| {
            let (condition, indexed) = writer().condition(filter);
            Found {
                condition,
                indexed,
                few,
            }
        };
        let filter = &self.query.filter;
        let parts = filter.parts().iter();
        let counted = parts.filter_map(|part| Some((part, writer().entries(part, FEW)?)));
        let (parts, counts): (Vec<_>, Vec<_>) = counted.take(PARTS).unzip();
        if parts.is_empty() {
            return Ok(found(filter, false));
        }
        let select = sea_query::Query::select().exprs(counts).to_owned();
        let connection = &self.pools.reads;
        let counts = connection.query_one_raw(self.store.engine.build(&select));
        let counts = counts.await?.ok_or_else(|| {
            Fault::Failed("the engine did not count the entries of indexes".to_owned())
        })?;
        let mut least = None;
        for (index, part) in parts.into_iter().enumerate() {
            let entries: i64 = counts.try_get_by_index(index)?;
            if least.is_none_or(|(least, _)| entries < least) {
                least = Some((entries, part));
            }
        }
        Ok(match least {
            Some((entries, part)) if entries <= FEW as i64 => found(part, true),
            _ => found(filter, false),
        })
    }

    /// The number of documents that match, if nothing else is asked for, and the engine knows which do.
    pub(super) async fn counted(&self, indexes: &Indexes) -> Result<Option<u64>, Fault> {
        let Some(Summary::Count(_)) = self.query.summary else {
            return Ok(None);
        };
        let filter = &self.query.filter;
        let writer = || Writer::new(self.store.engine, &self.collection, indexes);
        let condition = match writer().covered(filter) {
            _ if filter.is_empty() => self.condition.clone(),
            Some(path) if !self.any(indexes, &writer().is_unlike(path)).await? => {
                writer().exact_condition(filter)
            }
            _ => return Ok(None),
        };
        let found = document::Entity::find().filter(condition);
        let number = found.count(self.lane.of(&self.pools)).await?;
        Ok(Some(number))
    }

    /// Whether a document of the collection satisfies the condition of an index.
    pub(super) async fn any(&self, indexes: &Indexes, condition: &str) -> Result<bool, Fault> {
        let writer = || Writer::new(self.store.engine, &self.collection, indexes);
        let (all, _) = writer().condition(&Filter::All(Vec::new()));
        let some = ids(all).filter(Expr::cust(writer().holds(condition)));
        let some = some.limit(1).into_tuple::<(String, i64)>();
        Ok(some.one(&self.pools.reads).await?.is_some())
    }

    /// Whether the query reads few documents in the order of an index, and those are its results.
    pub(super) fn first_few(&self) -> bool {
        let Query { skip, limit, .. } = self.query;
        let most = limit.map_or(u64::MAX, |limit| skip.saturating_add(limit));
        most <= FEW && self.query.summary.is_none() && self.query.filter.is_of_ids()
    }
}
