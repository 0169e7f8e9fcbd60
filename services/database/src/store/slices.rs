//! Parts of a collection in the order of ids, each read by a short statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sea_orm::sea_query::{self, Expr, ExprTrait as _, SelectStatement, SimpleExpr};
use sea_orm::{ColumnTrait, Order};

use super::document;
use crate::query::Direction;

/// Bounds what one query holds in memory, and how long others wait for its slice.
pub(super) const SLICE: u64 = 1024;
pub(super) const FIRST_SLICE: u64 = 64;
const SLICE_BYTES: usize = 256 * 1024;
/// What the slices of all queries hold together. A document is not divided.
const ALL_SLICES_BYTES: usize = 32 << 20;

/// The documents that are left.
#[derive(Debug)]
pub(super) struct Slices {
    pub(super) last: Option<String>,
    pub(super) end: String,
    pub(super) direction: Direction,
    /// How many documents the next slice has.
    pub(super) rows: u64,
}

/// Counts the queries that are open.
#[derive(Debug)]
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(super) fn new(number: &Arc<AtomicUsize>) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(number.clone())
    }

    /// The size of a slice: less while many queries are open.
    pub(super) fn bytes(&self) -> usize {
        std::cmp::min(
            ALL_SLICES_BYTES / std::cmp::max(self.0.load(Ordering::Relaxed), 1),
            SLICE_BYTES,
        )
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slices {
    /// What is left.
    pub(super) fn condition(&self, condition: &SimpleExpr) -> SimpleExpr {
        let condition = condition.clone();
        let condition = condition.and(document::Column::Id.lte(self.end.as_str()));
        match (self.last.as_deref(), self.direction) {
            (None, _) => condition,
            (Some(last), Direction::Ascending) => condition.and(document::Column::Id.gt(last)),
            (Some(last), Direction::Descending) => condition.and(document::Column::Id.lt(last)),
        }
    }

    /// The greatest and the smallest id of the next slice, the number of its documents, and their size.
    pub(super) fn measure(&self, condition: &SimpleExpr) -> SelectStatement {
        let slice = sea_query::Query::select()
            .column(document::Column::Id)
            .expr_as(Expr::cust("octet_length(data)"), "size")
            .from(document::Entity)
            .and_where(self.condition(condition))
            .order_by(document::Column::Id, order(self.direction))
            .limit(self.rows)
            .to_owned();
        sea_query::Query::select()
            .expr(Expr::cust("max(id)"))
            .expr(Expr::cust("min(id)"))
            .expr(Expr::cust("count(*)"))
            .expr(Expr::cust("CAST(COALESCE(sum(size), 0) AS BIGINT)"))
            .from_subquery(slice, "slice")
            .to_owned()
    }
}

pub(super) fn order(direction: Direction) -> Order {
    match direction {
        Direction::Ascending => Order::Asc,
        Direction::Descending => Order::Desc,
    }
}
