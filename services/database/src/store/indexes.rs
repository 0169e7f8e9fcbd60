//! Secondary indexes: those that are declared are created when the store opens, and others removed.
//!
//! Each has three parts: one of the field's values, one of the documents in which the field may have others, and one of the
//! documents that the first does not sort as it should.

use std::collections::BTreeMap;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait as _,
    QueryFilter as _, QuerySelect as _, Statement,
};
use uuid::Uuid;

use super::{Fault, document, schema};
use crate::indexes::Indexes;
use crate::query::sql::Writer;

/// The prefix of every declared index; other indexes are left alone.
const PREFIX: &str = "declared_";
/// The most damaged documents that are named.
const MOST_NAMED: u64 = 100;

/// Creates the declared indexes that do not exist, and removes those that are no longer declared.
pub(super) async fn apply(connection: &DatabaseConnection, indexes: &Indexes) -> Result<(), Fault> {
    let engine = connection.get_database_backend();
    let mut wanted = wanted(engine, indexes);
    for name in existing(connection).await? {
        if wanted.remove(&name).is_none() {
            tracing::info!(index = name, "an index is no longer declared; removing it");
            connection
                .execute_unprepared(&format!("DROP INDEX IF EXISTS {name}"))
                .await?;
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let transaction = schema::alone(connection).await?;
    for (name, definition) in &wanted {
        tracing::info!(index = name, definition, "creating an index");
        let create = format!("CREATE INDEX IF NOT EXISTS {name} {definition}");
        match transaction
            .execute_unprepared(&create)
            .await
            .map_err(Fault::from)
        {
            // Queries do without it, and name the document.
            Err(Fault::Documents { cause, .. }) => {
                let documents = malformed(&transaction).await?.join(",");
                tracing::error!(
                    documents,
                    cause,
                    "documents are damaged: the index is created at the first start without them"
                );
            }
            created => {
                created?;
            }
        }
    }
    transaction.execute_unprepared("ANALYZE documents").await?;
    transaction.commit().await?;
    Ok(())
}

/// The ids of some of the documents that SQLite cannot look into.
async fn malformed(transaction: &DatabaseTransaction) -> Result<Vec<String>, DbErr> {
    document::Entity::find()
        .select_only()
        .column(document::Column::Id)
        .filter(Expr::cust("NOT json_valid(data)"))
        .limit(MOST_NAMED)
        .into_tuple()
        .all(transaction)
        .await
}

/// Name to definition. A name is derived from its definition, so that the index of an earlier version's definition is
/// replaced, and has nothing to quote.
fn wanted(engine: DbBackend, indexes: &Indexes) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    for (collection, paths) in indexes.iter() {
        for path in paths {
            let nulls = if engine == DbBackend::Sqlite {
                ""
            } else {
                " NULLS FIRST"
            };
            let writer = Writer::new(engine, collection, indexes);
            let condition = |text: String| (format!("({text}), "), format!(" AND {text}"));
            let value = (
                format!("({}){nulls}, ", writer.index_key(path)),
                String::new(),
            );
            let parts = [
                ("value", value),
                ("others", condition(writer.has_others(path))),
                ("odd", condition(writer.is_odd(path))),
            ];
            for (part, (key, only)) in parts {
                let definition =
                    format!("ON documents ({key}id) WHERE collection = '{collection}'{only}");
                let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, definition.as_bytes()).simple();
                wanted.insert(format!("{PREFIX}{name}_{part}"), definition);
            }
        }
    }
    wanted
}

async fn existing(connection: &DatabaseConnection) -> Result<Vec<String>, Fault> {
    let engine = connection.get_database_backend();
    let list = match engine {
        DbBackend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'index'",
        _ => {
            "SELECT indexname::text FROM pg_indexes \
             WHERE schemaname = current_schema() AND tablename = 'documents'"
        }
    };
    let rows = connection
        .query_all_raw(Statement::from_string(engine, list))
        .await?;
    let names: Vec<String> = rows
        .iter()
        .map(|row| row.try_get_by_index(0))
        .collect::<Result<_, _>>()?;
    Ok(names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX))
        .collect())
}
