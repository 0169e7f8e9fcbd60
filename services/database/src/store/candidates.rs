//! Several servers are asked which of them can be written to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use sea_orm::ConnectOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::engine::{server_options, session};
use super::location::Server;

/// How long a server may take to connect and to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A server, and how it is connected to: its URL is read only once, because the driver logs what it does not know in it.
pub(super) struct Candidate {
    pub(super) name: String,
    pools: ConnectOptions,
    single: PgConnectOptions,
}

/// Asks all servers at the same time; returns the place of the first that can be written to, and a connection to it. The
/// one that is in use goes before the others.
pub(super) async fn search(
    servers: &[Candidate],
    used: Option<usize>,
) -> Result<(usize, PgConnection), String> {
    let others = (0..servers.len()).filter(|place| Some(*place) != used);
    let places = used.into_iter().chain(others);
    let asked = places.map(async |place| (place, servers[place].ask().await));
    let mut answers: FuturesOrdered<_> = asked.collect();
    let mut reasons = Vec::with_capacity(servers.len());
    while let Some((place, answer)) = answers.next().await {
        match answer {
            Ok(connection) => return Ok((place, connection)),
            Err(reason) => reasons.push(format!("`{}` {reason}", servers[place].name)),
        }
    }
    Err(format!(
        "no server can be written to: {}",
        reasons.join("; ")
    ))
}

impl Candidate {
    pub(super) fn of(server: &Server) -> anyhow::Result<Self> {
        let options = server.url.text().parse::<PgConnectOptions>();
        let options =
            options.with_context(|| format!("failed to read the URL of `{}`", server.name))?;
        Ok(Self {
            name: server.name.clone(),
            pools: server_options(&server.url),
            single: session(options).disable_statement_logging(),
        })
    }

    /// How the connections of a term are made: each is checked when it is new, and before it is used again.
    pub(super) fn checked(&self, doubt: &Arc<Notify>) -> ConnectOptions {
        let mut options = self.pools.clone();
        let doubt = doubt.clone();
        options.map_sqlx_postgres_pool_opts(move |pool| checked(pool, doubt.clone()));
        options
    }

    /// Connects to the server if it can be written to, or says why it cannot.
    async fn ask(&self) -> Result<PgConnection, String> {
        match timeout(ANSWER, self.connect()).await {
            Ok(Ok(answer)) => answer.map_err(str::to_owned),
            Ok(Err(error)) => Err(format!("failed: {error}")),
            Err(_) => Err(format!("did not answer within {} s", ANSWER.as_secs())),
        }
    }

    async fn connect(&self) -> Result<Result<PgConnection, &'static str>, sqlx::Error> {
        let mut connection = self.single.connect().await?;
        match check(&mut connection).await? {
            Ok(()) => Ok(Ok(connection)),
            Err(reason) => {
                connection.close().await?;
                Ok(Err(reason))
            }
        }
    }
}

/// Whether the server of a connection can be written to; if not, why.
pub(super) async fn check(
    connection: &mut PgConnection,
) -> Result<Result<(), &'static str>, sqlx::Error> {
    let ask = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')";
    let (standby, read_only): (bool, String) = sqlx::query_as(ask).fetch_one(connection).await?;
    Ok(match (standby, &*read_only) {
        (true, _) => Err("is a standby"),
        (false, "off") => Ok(()),
        (false, _) => Err("is read-only"),
    })
}

fn checked(
    pool: sqlx::pool::PoolOptions<sqlx::Postgres>,
    doubt: Arc<Notify>,
) -> sqlx::pool::PoolOptions<sqlx::Postgres> {
    let again = doubt.clone();
    pool.test_before_acquire(false)
        .after_connect(move |connection, _| {
            let doubt = doubt.clone();
            Box::pin(async move {
                let checked = check(connection).await?;
                checked.map_err(|reason| {
                    doubt.notify_one();
                    sqlx::Error::Protocol(reason.to_owned())
                })
            })
        })
        .before_acquire(move |connection, _| {
            let doubt = again.clone();
            Box::pin(async move {
                let checked = check(connection).await;
                if !matches!(checked, Ok(Ok(()))) {
                    doubt.notify_one();
                }
                Ok(checked?.is_ok())
            })
        })
}
