//! Text indexes: those that are declared are created and filled when the store opens, and others removed.
//!
//! A change of a document takes the document out of its index, which the engine sees to by itself, and puts it in with its
//! new words, in the same transaction. What is not in its index is found as well, and only costs more.
//!
//! ```text
//! SQLite      NAME: an FTS5 table of words, with a row for each document that is in the index
//!             NAME_ids: all documents of the collection with the numbers of their rows; triggers keep it complete
//!             NAME_entries: where words are inserted
//! PostgreSQL  documents.words, and words_by: the NAME of the index whose fields they are of
//! ```

use std::collections::BTreeSet;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend,
    EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Statement,
    TransactionTrait as _,
};

use super::transaction::Transaction;
use super::{Fault, document, schema};
use crate::indexes::Indexes;
use crate::query;
use crate::text::TextIndex;

/// Documents that are put into an index by one transaction, and their bytes.
const ROWS: u64 = 1024;
const BYTES: i64 = 8 << 20;
/// The bytes of a document whose words are found at once.
const SHORT: usize = 16 << 10;

/// Creates and fills the declared text indexes, and removes those that are no longer declared.
pub(super) async fn apply(connection: &DatabaseConnection, indexes: &Indexes) -> Result<(), Fault> {
    let engine = connection.get_database_backend();
    let existing = existing(connection).await?;
    let declared: BTreeSet<&str> = indexes.texts().map(|(_, index)| &*index.name).collect();
    for name in existing
        .iter()
        .filter(|name| !declared.contains(name.as_str()))
    {
        tracing::info!(
            index = name,
            "a text index is no longer declared; removing it"
        );
        let transaction = connection.begin().await?;
        transaction
            .execute_unprepared(&removal(engine, name))
            .await?;
        transaction.commit().await?;
    }
    for (collection, index) in indexes.texts() {
        if !existing.contains(&index.name) {
            tracing::info!(index = index.name, collection, "creating a text index");
            let transaction = schema::alone(connection).await?;
            let creation = creation(engine, collection, &index.name);
            transaction.execute_unprepared(&creation).await?;
            transaction.commit().await?;
        }
        fill(connection, collection, index).await?;
    }
    Ok(())
}

/// A document's words, for its index.
#[derive(Debug)]
pub(super) struct Words {
    index: String,
    words: String,
}

impl Words {
    /// Those of a document that is about to be written, if its collection has a text index.
    pub(super) async fn of(
        indexes: &Indexes,
        collection: &str,
        data: &str,
    ) -> Result<Option<Self>, Fault> {
        let Some(index) = indexes.text(collection) else {
            return Ok(None);
        };
        let words = if data.len() <= SHORT {
            query::index_entry(index, data)
        } else {
            let (index, data) = (index.clone(), data.to_owned());
            aside(move || query::index_entry(&index, &data)).await?
        };
        let index = index.name.clone();
        Ok(words.map(|words| Self { index, words }))
    }

    /// Puts the document, which was just written, into its index.
    pub(super) async fn write(&self, transaction: &mut Transaction, id: &str) -> Result<(), Fault> {
        let entry = entry(transaction.engine(), &self.index);
        transaction.execute(&entry, &[id, &self.words]).await?;
        Ok(())
    }
}

/// Finds words where they hold up no call.
async fn aside<T: Send + 'static>(find: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let found = tokio::task::spawn_blocking(find).await;
    found.map_err(|error| Fault::Failed(format!("failed to find words: {error}")))
}

async fn existing(connection: &DatabaseConnection) -> Result<BTreeSet<String>, Fault> {
    let engine = connection.get_database_backend();
    let (list, suffix) = match engine {
        DbBackend::Sqlite => (
            "SELECT name FROM sqlite_master WHERE type = 'table'",
            "_ids",
        ),
        _ => (
            "SELECT indexname::text FROM pg_indexes \
             WHERE schemaname = current_schema() AND tablename = 'documents'",
            "_words",
        ),
    };
    let rows = connection
        .query_all_raw(Statement::from_string(engine, list))
        .await?;
    let mut names = BTreeSet::new();
    for row in rows {
        let name: String = row.try_get_by_index(0)?;
        if let Some(name) = name.strip_suffix(suffix)
            && name.starts_with(TextIndex::PREFIX)
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// The words come from the service: the tokenizer only divides them at the spaces.
fn creation(engine: DbBackend, collection: &str, name: &str) -> String {
    match engine {
        DbBackend::Sqlite => format!(
            "CREATE VIRTUAL TABLE {name} USING
                 fts5(words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');
             CREATE TABLE {name}_ids (
                 number INTEGER PRIMARY KEY,
                 id TEXT NOT NULL UNIQUE,
                 indexed INTEGER NOT NULL DEFAULT FALSE
             );
             CREATE INDEX {name}_others ON {name}_ids (id) WHERE indexed = FALSE;
             CREATE TRIGGER {name}_insert AFTER INSERT ON documents
             WHEN NEW.collection = '{collection}' BEGIN
                 INSERT INTO {name}_ids (id) VALUES (NEW.id);
             END;
             CREATE TRIGGER {name}_update AFTER UPDATE OF data ON documents
             WHEN NEW.collection = '{collection}' BEGIN
                 DELETE FROM {name} WHERE rowid = (SELECT number FROM {name}_ids WHERE id = NEW.id);
                 UPDATE {name}_ids SET indexed = FALSE WHERE id = NEW.id;
             END;
             CREATE TRIGGER {name}_delete AFTER DELETE ON documents
             WHEN OLD.collection = '{collection}' BEGIN
                 DELETE FROM {name} WHERE rowid = (SELECT number FROM {name}_ids WHERE id = OLD.id);
                 DELETE FROM {name}_ids WHERE id = OLD.id;
             END;
             CREATE VIEW {name}_entries AS SELECT id, '' AS words FROM {name}_ids;
             CREATE TRIGGER {name}_entry INSTEAD OF INSERT ON {name}_entries BEGIN
                 INSERT INTO {name} (rowid, words)
                 SELECT number, NEW.words FROM {name}_ids WHERE id = NEW.id AND indexed = FALSE;
                 UPDATE {name}_ids SET indexed = TRUE WHERE id = NEW.id;
             END;
             INSERT INTO {name}_ids (id) SELECT id FROM documents WHERE collection = '{collection}';"
        ),
        _ => format!(
            "CREATE INDEX IF NOT EXISTS {name}_words ON documents USING gin (words)
             WHERE collection = '{collection}' AND words_by = '{name}';
             CREATE INDEX IF NOT EXISTS {name}_others ON documents (id)
             WHERE collection = '{collection}' AND words_by IS DISTINCT FROM '{name}';"
        ),
    }
}

fn removal(engine: DbBackend, name: &str) -> String {
    match engine {
        DbBackend::Sqlite => format!(
            "DROP TRIGGER IF EXISTS {name}_insert;
             DROP TRIGGER IF EXISTS {name}_update;
             DROP TRIGGER IF EXISTS {name}_delete;
             DROP VIEW IF EXISTS {name}_entries;
             DROP TABLE IF EXISTS {name};
             DROP TABLE IF EXISTS {name}_ids;"
        ),
        _ => format!("DROP INDEX IF EXISTS {name}_words; DROP INDEX IF EXISTS {name}_others;"),
    }
}

/// The statement that puts a document, `$1`, into an index with its words, `$2`.
fn entry(engine: DbBackend, name: &str) -> String {
    match engine {
        DbBackend::Sqlite => format!("INSERT INTO {name}_entries (id, words) VALUES ($1, $2)"),
        _ => {
            format!("UPDATE documents SET words = $2::tsvector, words_by = '{name}' WHERE id = $1")
        }
    }
}

/// Puts the documents into the index that are not in it.
async fn fill(
    connection: &DatabaseConnection,
    collection: &str,
    index: &TextIndex,
) -> Result<(), Fault> {
    let mut last = String::new();
    while let Some(end) = fill_more(connection, collection, index, &last).await? {
        last = end;
    }
    Ok(())
}

/// Puts some into the index of those that follow the document `last`; returns the last of them.
async fn fill_more(
    connection: &DatabaseConnection,
    collection: &str,
    index: &TextIndex,
    last: &str,
) -> Result<Option<String>, Fault> {
    let name = &index.name;
    let engine = connection.get_database_backend();
    let others = match engine {
        DbBackend::Sqlite => format!("id IN (SELECT id FROM {name}_ids WHERE indexed = FALSE)"),
        _ => format!("words_by IS DISTINCT FROM '{name}'"),
    };
    let transaction = connection.begin().await?;
    // Another service that shares the store does not change them meanwhile.
    let sizes: Vec<(String, i64)> = document::Entity::find()
        .select_only()
        .column(document::Column::Id)
        .column_as(Expr::cust("CAST(octet_length(data) AS BIGINT)"), "size")
        .filter(document::Column::Collection.eq(collection))
        .filter(Expr::cust(others))
        .filter(document::Column::Id.gt(last))
        .order_by_asc(document::Column::Id)
        .limit(ROWS)
        .lock_exclusive()
        .into_tuple()
        .all(&transaction)
        .await?;
    let mut bytes = 0;
    let fits = |(_, size): &(String, i64)| {
        let first = bytes == 0;
        bytes += size;
        first || bytes <= BYTES
    };
    let fitting = sizes.into_iter().take_while(fits);
    let ids: Vec<String> = fitting.map(|(id, _)| id).collect();
    let documents = readable(&transaction, &ids).await?.into_iter();
    let own = index.clone();
    let words = move |document: document::Model| {
        let words = query::index_entry(&own, &document.data)?;
        Some((document.id, words))
    };
    for (id, words) in aside(move || documents.filter_map(words).collect::<Vec<_>>()).await? {
        let statement =
            Statement::from_sql_and_values(engine, entry(engine, name), [id.into(), words.into()]);
        transaction.execute_raw(statement).await?;
    }
    transaction.commit().await?;
    Ok(ids.into_iter().next_back())
}

/// Reads documents, without those that are damaged: a query that comes across them names them.
async fn readable(
    transaction: &DatabaseTransaction,
    ids: &[String],
) -> Result<Vec<document::Model>, Fault> {
    let find = async |ids: &[String]| {
        let found = document::Entity::find().filter(document::Column::Id.is_in(ids));
        found.all(transaction).await.map_err(Fault::from)
    };
    let mut found = Vec::new();
    match find(ids).await {
        Err(Fault::Documents { .. }) => {}
        documents => return documents,
    }
    for id in ids {
        match find(std::slice::from_ref(id)).await {
            Err(Fault::Documents { .. }) => {}
            documents => found.extend(documents?),
        }
    }
    Ok(found)
}
