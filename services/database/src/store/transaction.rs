//! A transaction on a connection of its own.
//!
//! ```text
//! BEGIN -> statements -> COMMIT -------------------------> the connection is used again
//!            |            | fails
//!            | fails      +-----------------------------> the connection is closed
//!            +-> a fault of the statement -> ROLLBACK ---> the connection is used again
//!            +-> any other fault ------------------------> the connection is closed
//! ```
//! It never asks the driver how deep in transactions a connection is. After some errors (no room, I/O, no memory)
//! SQLite has rolled back by itself, the driver's ROLLBACK fails, and its count stays one too high: each later commit is
//! then the RELEASE of a savepoint in a transaction that never ends, and is lost with it. The engine's own commands
//! cannot be wrong about it: BEGIN fails inside a transaction, and COMMIT outside of one.

use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{self, AssertSqlSafe, Executor as _, Postgres, Sqlite};
use sea_orm::{DatabaseConnection, DbBackend};

use super::Fault;

/// An open transaction; its connection is closed with it, unless it ends by the engine's word.
#[derive(Debug)]
pub(super) struct Transaction {
    connection: Connection,
    ended: bool,
}

#[derive(Debug)]
enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Transaction {
    pub(super) async fn begin(connections: &DatabaseConnection) -> Result<Self, Fault> {
        let (connection, begin) = match connections.get_database_backend() {
            // Waits for the lock now, not in the first statement.
            DbBackend::Sqlite => {
                let pool = connections.get_sqlite_connection_pool();
                (Connection::Sqlite(pool.acquire().await?), "BEGIN IMMEDIATE")
            }
            _ => {
                let pool = connections.get_postgres_connection_pool();
                (Connection::Postgres(pool.acquire().await?), "BEGIN")
            }
        };
        let mut transaction = Self {
            connection,
            ended: false,
        };
        transaction.command(begin).await?;
        Ok(transaction)
    }

    pub(super) fn engine(&self) -> DbBackend {
        match &self.connection {
            Connection::Sqlite(_) => DbBackend::Sqlite,
            Connection::Postgres(_) => DbBackend::Postgres,
        }
    }

    /// Runs a statement whose parameters `$1`, `$2`... are texts; returns how many rows it changed.
    pub(super) async fn execute(&mut self, sql: &str, texts: &[&str]) -> Result<u64, Fault> {
        // Callers' values are parameters.
        let sql = AssertSqlSafe(sql);
        let rows = match &mut self.connection {
            Connection::Sqlite(connection) => {
                let query = texts
                    .iter()
                    .fold(sqlx::query(sql), |query, text| query.bind(*text));
                query.execute(&mut **connection).await?.rows_affected()
            }
            Connection::Postgres(connection) => {
                let query = texts
                    .iter()
                    .fold(sqlx::query(sql), |query, text| query.bind(*text));
                query.execute(&mut **connection).await?.rows_affected()
            }
        };
        Ok(rows)
    }

    /// Makes the changes durable.
    pub(super) async fn commit(mut self) -> Result<(), Fault> {
        self.command("COMMIT").await?;
        self.ended = true;
        Ok(())
    }

    /// Undoes the changes after `fault`.
    pub(super) async fn undo(mut self, fault: &Fault) {
        // The engine refused a statement in its usual way: PostgreSQL's connections are worth keeping then.
        if matches!(fault, Fault::Refused(_)) {
            self.ended = self.command("ROLLBACK").await.is_ok();
        }
    }

    async fn command(&mut self, sql: &'static str) -> Result<(), Fault> {
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.execute(sql).await.map(drop)?,
            Connection::Postgres(connection) => connection.execute(sql).await.map(drop)?,
        }
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.close_on_drop(),
            Connection::Postgres(connection) => connection.close_on_drop(),
        }
    }
}
