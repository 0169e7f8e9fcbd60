//! Connections to the engine: SQLite's file, or a PostgreSQL server (or what speaks its protocol) by its URL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, sqlx,
};
use serving::CancellationToken;
use tokio::sync::Notify;

use super::Fault;
use super::location::Url;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that one statement may run, for filters that are costly in PostgreSQL. It is shorter than the longest
/// call, so that the caller gets the reason.
const SCAN_TIMEOUT: Duration = Duration::from_secs(50);
pub(super) const SCANS: u32 = 4;
/// For queries that need few documents; reads by id have connections beside them.
const LOOKUPS: u32 = 2;

/// Connections to a file or to one server by their use, so that no use waits for another.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) writes: DatabaseConnection,
    /// What is quick: documents by their ids or by an index.
    pub(super) reads: DatabaseConnection,
    pub(super) scans: DatabaseConnection,
    /// Of several servers, for how long this one is used.
    term: Option<Term>,
}

/// The time in which one of several servers is the one that is written to.
#[derive(Debug, Clone, Default)]
pub(super) struct Term {
    pub(super) ended: CancellationToken,
    /// Whether the server should be checked now.
    pub(super) doubt: Arc<Notify>,
}

/// How many batches the engine runs at once: SQLite has one writer.
pub(super) fn parallel(engine: DbBackend) -> u32 {
    match engine {
        DbBackend::Sqlite => 1,
        _ => 4,
    }
}

impl Pools {
    /// Connects to a file that exists.
    pub(super) async fn of_file(path: &Path) -> anyhow::Result<Self> {
        Self::open(DbBackend::Sqlite, file_options(path), None).await
    }

    /// Connects to the only server.
    pub(super) async fn of_server(url: &Url) -> anyhow::Result<Self> {
        Self::open(DbBackend::Postgres, server_options(url), None).await
    }

    /// Connects to one of several servers.
    pub(super) async fn of_term(options: ConnectOptions, term: Term) -> anyhow::Result<Self> {
        Self::open(DbBackend::Postgres, options, Some(term)).await
    }

    async fn open(
        engine: DbBackend,
        options: ConnectOptions,
        term: Option<Term>,
    ) -> anyhow::Result<Self> {
        let parallel = parallel(engine);
        let writes = connect(&options, parallel).await?;
        durable(&writes).await?;
        Ok(Self {
            reads: connect(&options, parallel + LOOKUPS).await?,
            scans: connect(&options, SCANS).await?,
            writes,
            term,
        })
    }

    /// Does work on these connections: it ends when another of several servers may be the one that is written to. What a
    /// commit did that ends so is not known.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let Some(term) = &self.term else {
            return work.await;
        };
        let done = tokio::select! {
            biased;
            done = work => done,
            () = term.ended.cancelled() => Err(Fault::Unreachable(
                "the connections to the server were closed, because it is no longer in use".to_owned(),
            )),
        };
        if let Err(Fault::Unreachable(_) | Fault::ReadOnly(_)) = &done {
            term.doubt.notify_one();
        }
        done
    }

    /// Closes all; SQLite's log is folded into its file.
    pub(super) async fn close(&self) -> Result<(), sea_orm::DbErr> {
        let all = [&self.scans, &self.reads, &self.writes];
        let closed = all.map(|connections| connections.clone().close());
        try_join_all(closed).await.map(drop)
    }
}

fn file_options(path: &Path) -> ConnectOptions {
    let path = path.to_owned();
    let mut options = options("sqlite://");
    options
        // A connection to a file is never lost.
        .test_before_acquire(false)
        .map_sqlx_sqlite_opts(move |sqlite| sqlite_options(sqlite, &path));
    options
}

/// How the store on a server is connected to.
pub(super) fn server_options(url: &Url) -> ConnectOptions {
    let mut options = options(url.text());
    options.map_sqlx_postgres_opts(session);
    options
}

/// What all sessions of a server have in common.
pub(super) fn session(postgres: PgConnectOptions) -> PgConnectOptions {
    // The driver would look for a host of the name `[::1]`.
    let host = postgres.get_host().trim_matches(['[', ']']).to_owned();
    let timeout = SCAN_TIMEOUT.as_millis().to_string();
    postgres
        .host(&host)
        .application_name("database-server")
        .options([("statement_timeout", timeout)])
}

fn options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None::<Duration>)
        .max_lifetime(None::<Duration>)
        .test_before_acquire(true)
        .sqlx_logging(false);
    options
}

/// Opens a pool with as many connections as it may have.
async fn connect(options: &ConnectOptions, most: u32) -> Result<DatabaseConnection, Fault> {
    let mut options = options.clone();
    options.max_connections(most);
    let connections = Database::connect(options).await?;
    match connections.get_database_backend() {
        DbBackend::Sqlite => fill(connections.get_sqlite_connection_pool()).await?,
        _ => fill(connections.get_postgres_connection_pool()).await?,
    }
    Ok(connections)
}

/// Makes all connections of a pool. The driver's `min_connections` would replace lost ones, too, and tries it for minutes:
/// until then a pool does not close.
async fn fill<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> Result<(), sqlx::Error> {
    let all = (0..pool.options().get_max_connections()).map(|_| pool.acquire());
    try_join_all(all).await.map(drop)
}

pub(super) fn sqlite_options(sqlite: SqliteConnectOptions, file: &Path) -> SqliteConnectOptions {
    sqlite
        .filename(file)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .with_regexp()
}

/// Refuses an engine that acknowledges what is not on stable storage.
async fn durable(connection: &DatabaseConnection) -> anyhow::Result<()> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for setting in ["fsync", "synchronous_commit"] {
        let show = Statement::from_string(DbBackend::Postgres, format!("SHOW {setting}"));
        let row = connection.query_one_raw(show).await?;
        let value: String = row
            .with_context(|| format!("the server does not have the setting `{setting}`"))?
            .try_get_by_index(0)?;
        ensure!(
            value != "off",
            "the server has `{setting} = off`, which loses acknowledged writes: set it to `on`"
        );
    }
    Ok(())
}
