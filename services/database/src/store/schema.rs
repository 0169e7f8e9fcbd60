//! The schema, brought up to date step by step, and the check of the file's structure.

use anyhow::{Context as _, ensure};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, Statement,
    TransactionTrait,
};

/// Each entry brings the schema one version on.
const SQLITE: &[&str] = &[
    "CREATE TABLE documents (id TEXT PRIMARY KEY, collection TEXT NOT NULL, data TEXT NOT NULL);
     CREATE INDEX documents_by_collection ON documents (collection, id);",
];

/// The data is kept as it came; `body` is what filters read. Ids sort by their bytes, as SQLite sorts them.
/// `words` are for the text index `words_by`; they do not outlive the data that they are of, whatever changes it.
const POSTGRES: &[&str] = &[
    "CREATE TABLE documents (
         id TEXT COLLATE \"C\" PRIMARY KEY,
         collection TEXT COLLATE \"C\" NOT NULL,
         data TEXT NOT NULL,
         body JSONB NOT NULL GENERATED ALWAYS AS (data::jsonb) STORED
     );
     CREATE INDEX documents_by_collection ON documents (collection, id);",
    "ALTER TABLE documents ADD COLUMN words TSVECTOR, ADD COLUMN words_by TEXT COLLATE \"C\";
     CREATE FUNCTION forget_words() RETURNS TRIGGER LANGUAGE plpgsql AS
         'BEGIN NEW.words := NULL; NEW.words_by := NULL; RETURN NEW; END';
     CREATE TRIGGER documents_forget_words BEFORE UPDATE OF data ON documents
     FOR EACH ROW WHEN (OLD.words_by IS NOT NULL) EXECUTE FUNCTION forget_words();",
];

/// Any number that only this program uses.
const POSTGRES_LOCK: i64 = 0x7073_7064;

/// Where the version is kept: SQLite has a place for it in the file's header.
struct Version {
    prepare: &'static str,
    read: &'static str,
    write: fn(usize) -> String,
}

fn version(engine: DbBackend) -> Version {
    if engine == DbBackend::Sqlite {
        return Version {
            prepare: "",
            read: "PRAGMA user_version",
            write: |version| format!("PRAGMA user_version = {version}"),
        };
    }
    Version {
        prepare: "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL);
             INSERT INTO schema_version SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM schema_version);",
        read: "SELECT version FROM schema_version",
        write: |version| format!("UPDATE schema_version SET version = {version}"),
    }
}

/// Begins a transaction that changes tables or indexes. Replicas that start together wait for each other here, because
/// PostgreSQL fails where two create the same index, `IF NOT EXISTS` or not. It may take as long as it needs.
pub(super) async fn alone(connection: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let transaction = connection.begin().await?;
    if connection.get_database_backend() == DbBackend::Postgres {
        let lock = format!(
            "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({POSTGRES_LOCK})"
        );
        transaction.execute_unprepared(&lock).await?;
    }
    Ok(transaction)
}

/// Applies the migrations that are missing, each in a transaction of its own.
pub(super) async fn migrate(connection: &DatabaseConnection) -> anyhow::Result<()> {
    let engine = connection.get_database_backend();
    let migrations = match engine {
        DbBackend::Sqlite => SQLITE,
        _ => POSTGRES,
    };
    let version = version(engine);
    loop {
        let transaction = alone(connection).await?;
        if !version.prepare.is_empty() {
            transaction.execute_unprepared(version.prepare).await?;
        }
        let row = transaction
            .query_one_raw(Statement::from_string(engine, version.read))
            .await?
            .context("failed to read the schema's version")?;
        let applied: i32 = row.try_get_by_index(0)?;
        let applied = usize::try_from(applied)?;
        ensure!(
            applied <= migrations.len(),
            "its schema has version {applied}, newer than this program's {}: use a newer program",
            migrations.len()
        );
        let Some(migration) = migrations.get(applied) else {
            transaction.commit().await?;
            return Ok(());
        };
        transaction.execute_unprepared(migration).await?;
        transaction
            .execute_unprepared(&(version.write)(applied + 1))
            .await?;
        transaction.commit().await?;
    }
}

/// Checks the structure of SQLite's file; PostgreSQL checks its own pages.
pub(super) async fn check(connection: &DatabaseConnection) -> anyhow::Result<()> {
    let engine = connection.get_database_backend();
    if engine != DbBackend::Sqlite {
        return Ok(());
    }
    let row = connection
        .query_one_raw(Statement::from_string(engine, "PRAGMA quick_check(1)"))
        .await?
        .context("the check returned no row")?;
    let verdict: String = row.try_get_by_index(0)?;
    ensure!(verdict == "ok", "{verdict}");
    Ok(())
}
