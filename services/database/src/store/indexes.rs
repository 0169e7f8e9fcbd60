//! Secondary indexes: declared by the configuration for fields of collections, made and removed at start.
//!
//! Each has two parts: one of the field's values, one of the documents in which the field is an array.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use uuid::Uuid;

use super::{Fault, valid_collection};
use crate::query::sql::Writer;

/// Every declared index begins so; others are left alone.
const PREFIX: &str = "declared_";

/// The fields of each collection that have an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(BTreeMap<String, BTreeSet<Vec<String>>>);

impl Indexes {
    /// Whether a field of a collection has one.
    pub(crate) fn has(&self, collection: &str, path: &[String]) -> bool {
        self.0
            .get(collection)
            .is_some_and(|paths| paths.contains(path))
    }

    /// Whether any field of a collection has one.
    pub(crate) fn any(&self, collection: &str) -> bool {
        self.0.contains_key(collection)
    }
}

/// Reads `COLLECTION:FIELD[,FIELD]...`, several separated by `;`. The names become part of SQL text.
impl FromStr for Indexes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut indexes = BTreeMap::<_, BTreeSet<_>>::new();
        for declaration in text
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let fault = |what: &str| Err(format!("has `{declaration}`: {what}"));
            let Some((collection, fields)) = declaration.split_once(':') else {
                return fault("write it as COLLECTION:FIELD,FIELD");
            };
            if !valid_collection(collection) {
                return fault("the collection's name has 1 to 64 letters, digits, `_` and `-`");
            }
            for field in fields.split(',').map(str::trim) {
                let plain = |part: &str| {
                    !part.is_empty()
                        && part
                            .chars()
                            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                };
                if !field.split('.').all(plain) {
                    return fault(&format!(
                        "`{field}` can't be indexed: its names have letters, digits, `_` and `-`, with dots between"
                    ));
                }
                indexes
                    .entry(collection.to_owned())
                    .or_default()
                    .insert(field.split('.').map(str::to_owned).collect());
            }
        }
        Ok(Self(indexes))
    }
}

/// Makes what is declared and isn't there, and removes what is no longer declared.
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
    let transaction = connection.begin().await?;
    for (name, definition) in &wanted {
        tracing::info!(index = name, definition, "making an index");
        transaction
            .execute_unprepared(&format!("CREATE INDEX IF NOT EXISTS {name} {definition}"))
            .await?;
    }
    transaction.commit().await?;
    connection.execute_unprepared("ANALYZE").await?;
    Ok(())
}

/// Name to definition; a name is derived from what it is of, and has nothing to quote.
fn wanted(engine: DbBackend, indexes: &Indexes) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    for (collection, paths) in &indexes.0 {
        for path in paths {
            let writer = || Writer::new(engine, collection, indexes);
            let field = format!("{collection}:{}", path.join("."));
            let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, field.as_bytes()).simple();
            let nulls = if engine == DbBackend::Sqlite {
                ""
            } else {
                " NULLS FIRST"
            };
            let (key, kind) = (writer().index_key(path), writer().index_kind(path));
            wanted.insert(
                format!("{PREFIX}{name}_value"),
                format!("ON documents (({key}){nulls}, id) WHERE collection = '{collection}'"),
            );
            wanted.insert(
                format!("{PREFIX}{name}_array"),
                format!(
                    "ON documents (({kind}), id) WHERE collection = '{collection}' AND {kind} = 'array'"
                ),
            );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_or_refused() {
        let indexes: Indexes = "documents:label, author.age; other:x".parse().unwrap();
        let age = ["author".to_owned(), "age".to_owned()];
        assert!(indexes.has("documents", &age) && indexes.any("other"));
        assert!(!indexes.has("other", &age) && !indexes.any("none"));
        for wrong in [
            "label", "a b:x", "c:", "c:a..b", "c:a'b", "c:a\"", "c:$x", "c:é",
        ] {
            assert!(wrong.parse::<Indexes>().is_err(), "{wrong}");
        }
    }
}
