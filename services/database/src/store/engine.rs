//! Connections to the engine: SQLite's file, or a PostgreSQL server (or what speaks its protocol) by its URL.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that one statement may run, for filters that are costly in PostgreSQL. It is shorter than the longest
/// call, so that the caller gets the reason.
const SCAN_TIMEOUT: Duration = Duration::from_secs(50);
pub(super) const SCANS: u32 = 4;
/// For queries that need few documents; reads by id have connections beside them.
const LOOKUPS: u32 = 2;

/// Of a new file, as SQLite makes them.
const MODE: u32 = 0o644;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// SQLite's file; it is created if it does not exist.
    File(PathBuf),
    /// A `postgres://` URL.
    Postgres(String),
}

impl FromStr for Location {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
        Ok(match postgres {
            true => Self::Postgres(text.to_owned()),
            false => Self::File(text.into()),
        })
    }
}

impl std::fmt::Display for Location {
    /// Without the password that a URL may have.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => match url.split_once("://").zip(url.rsplit_once('@')) {
                Some(((scheme, _), (_, host))) => write!(f, "{scheme}://{host}"),
                None => f.write_str(url),
            },
        }
    }
}

impl Location {
    /// Creates the file if it does not exist. No connection does: a file that is removed while it is in use would be
    /// replaced by an empty one.
    pub(super) fn create(&self) -> std::io::Result<()> {
        match self {
            // To close a file that is open twice in a process would release SQLite's locks on it.
            Self::File(path) if !path.try_exists()? => {
                let mut new = File::options();
                new.append(true).create(true).mode(MODE).open(path)?;
                Ok(())
            }
            Self::File(_) | Self::Postgres(_) => Ok(()),
        }
    }
}

/// Connections by their use, so that no use waits for another.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pub(super) writes: DatabaseConnection,
    /// What is quick: documents by their ids or by an index.
    pub(super) reads: DatabaseConnection,
    pub(super) scans: DatabaseConnection,
    /// How many batches the engine runs at once: SQLite has one writer.
    pub(super) parallel: u32,
}

impl Connections {
    /// Connects to a store that exists.
    pub(super) async fn open(location: &Location) -> anyhow::Result<Self> {
        let parallel = match location {
            Location::File(_) => 1,
            Location::Postgres(_) => 4,
        };
        let writes = connect(location, parallel).await?;
        durable(&writes).await?;
        Ok(Self {
            reads: connect(location, parallel + LOOKUPS).await?,
            scans: connect(location, SCANS).await?,
            writes,
            parallel,
        })
    }

    /// Closes all; SQLite's log is folded into its file.
    pub(super) async fn close(&self) -> Result<(), sea_orm::DbErr> {
        self.scans.clone().close().await?;
        self.reads.clone().close().await?;
        self.writes.clone().close().await
    }
}

async fn connect(location: &Location, most: u32) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = match location {
        Location::File(_) => ConnectOptions::new("sqlite://"),
        Location::Postgres(url) => ConnectOptions::new(url),
    };
    options
        .max_connections(most)
        .min_connections(most)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None::<Duration>)
        .max_lifetime(None::<Duration>)
        // A connection to a file is never lost.
        .test_before_acquire(matches!(location, Location::Postgres(_)))
        .sqlx_logging(false);
    if let Location::File(path) = location {
        let path = path.clone();
        options.map_sqlx_sqlite_opts(move |sqlite| sqlite_options(sqlite, &path));
    } else {
        options.map_sqlx_postgres_opts(|postgres| {
            let timeout = SCAN_TIMEOUT.as_millis().to_string();
            postgres
                .application_name("database-server")
                .options([("statement_timeout", timeout)])
        });
    }
    Database::connect(options).await
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
