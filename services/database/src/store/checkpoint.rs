//! Brings what SQLite's log holds into its file, while the service runs.

use anyhow::{Context as _, ensure};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::engine::Pools;
use super::location::Location;

/// Folds the log of the store into its file, so that the file alone is the store. A PostgreSQL server sees to that
/// itself.
pub async fn checkpoint(store: &Location) -> anyhow::Result<()> {
    let Location::File(file) = store else {
        return Ok(());
    };
    ensure!(file.is_file(), "the store `{store}` does not exist");
    let connections = Pools::of_file(file).await?;
    let pragma = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(TRUNCATE)");
    let answer = connections.writes.query_one_raw(pragma).await;
    connections.close().await?;
    let busy: i32 = answer?
        .context("the checkpoint returned no row")?
        .try_get_by_index(0)?;
    ensure!(
        busy == 0,
        "failed to checkpoint the store `{store}`: other connections are reading it"
    );
    Ok(())
}
