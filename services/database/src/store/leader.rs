//! Which of several PostgreSQL servers is the one that can be written to, and the connections to it.
//!
//! ```text
//! search: all servers are asked at once -- the first of the list that can be written to --> term: it is used
//!   ^  ^                              |                                                      |
//!   |  +---- none, after a pause -----+                                                      |
//!   +------------- a check fails, and it is no longer the answer of a search ----------------+
//! ```
//! A term's server is checked each second, and when an operation fails as if it were the wrong one. When a term ends, its
//! operations end with it, and its connections are closed: the next term has others. So nothing waits for a server that
//! does not answer.
//!
//! It appoints no server: that is the work of what manages the servers, which keeps one of them writable at most.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::bail;
use sea_orm::sqlx::postgres::PgConnection;
use serving::CancellationToken;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Fault;
use super::candidates::{Candidate, check, search};
use super::engine::{Pools, Term};
use super::location::Server;

/// How long the server that is in use may take to answer: it may be busy.
const CHECK: Duration = Duration::from_secs(5);
/// Between two checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while operations fail.
const SHORTEST: Duration = Duration::from_millis(100);
/// Between two searches.
const RETRY: Duration = Duration::from_millis(500);
/// How long a server may take for all connections of a term.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the first search lasts.
const START: Duration = Duration::from_secs(20);
/// How long connections may take to close in order.
const CLOSE: Duration = Duration::from_secs(5);

/// The servers, and the connections of the present term.
#[derive(Debug)]
pub(super) struct Leader {
    state: Arc<State>,
    stop: CancellationToken,
    supervision: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// The present term's connections, or why there is none.
type State = RwLock<Result<Arc<Pools>, String>>;

/// A server that is in use.
struct Present {
    /// Its place in the list.
    place: usize,
    term: Term,
    pools: Arc<Pools>,
    /// For the checks.
    connection: PgConnection,
}

impl Leader {
    /// Finds the server, and follows it from then on.
    pub(super) async fn find(servers: &[Server]) -> anyhow::Result<Self> {
        let servers = servers.iter().map(Candidate::of);
        let servers: Vec<Candidate> = servers.collect::<Result<_, _>>()?;
        let began = Instant::now();
        let mut reported = String::new();
        let present = loop {
            match begin(&servers).await {
                Ok(present) => break present,
                Err(reason) if began.elapsed() >= START => bail!(reason),
                Err(reason) => report(&mut reported, reason),
            }
            sleep(RETRY).await;
        };
        let state = Arc::new(State::new(Ok(present.pools.clone())));
        let stop = CancellationToken::new();
        let supervision = supervise(servers, present, state.clone());
        let stopped = stop.clone().cancelled_owned();
        let supervision = tokio::spawn(async move {
            tokio::select! {
                () = supervision => {}
                () = stopped => {}
            }
        });
        Ok(Self {
            state,
            stop,
            supervision: std::sync::Mutex::new(Some(supervision)),
        })
    }

    /// The connections to the server that can be written to, if one is known.
    pub(super) fn current(&self) -> Result<Arc<Pools>, Fault> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone().map_err(Fault::Unreachable)
    }

    /// Ends the checks, and closes the connections.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let mut supervision = self
            .supervision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(supervision) = &mut supervision {
            // It has no result; if it panicked, that was logged.
            let _ended = supervision.await;
        }
        let last = set(&self.state, Err("the store is closed".to_owned()));
        if let Ok(pools) = last {
            close(&pools).await;
        }
    }
}

/// Puts another state in the place of the one that is returned.
fn set(state: &State, new: Result<Arc<Pools>, String>) -> Result<Arc<Pools>, String> {
    let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *state, new)
}

/// Closes connections in order, unless their server does not answer.
async fn close(pools: &Pools) {
    match timeout(CLOSE, pools.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "failed to close connections to a server"),
        Err(_) => tracing::info!("the connections to a server did not close in time"),
    }
}

/// Logs why no server is used, each reason once.
fn report(reported: &mut String, reason: String) {
    if *reported != reason {
        tracing::warn!(reason, "no server can be written to");
        *reported = reason;
    }
}

/// Follows the server that can be written to, whichever it is; never returns.
async fn supervise(servers: Vec<Candidate>, mut present: Present, state: Arc<State>) {
    loop {
        let reason = present.last(&servers).await;
        let name = &servers[present.place].name;
        tracing::warn!(server = name, reason, "the server is no longer used");
        let ended = set(&state, Err(reason));
        present.term.ended.cancel();
        // The connection of the checks is closed as well.
        drop(present);
        if let Ok(pools) = ended {
            tokio::spawn(async move { close(&pools).await });
        }
        let mut reported = String::new();
        present = loop {
            match begin(&servers).await {
                Ok(present) => break present,
                Err(reason) => {
                    // What was there before is a reason, too.
                    let _before = set(&state, Err(reason.clone()));
                    report(&mut reported, reason);
                }
            }
            sleep(RETRY).await;
        };
        let _reason = set(&state, Ok(present.pools.clone()));
    }
}

/// Begins a term with the first server that can be written to.
async fn begin(servers: &[Candidate]) -> Result<Present, String> {
    let (place, connection) = search(servers, None).await?;
    let server = &servers[place];
    let term = Term::default();
    let options = server.checked(&term.doubt);
    let failed = |cause: String| format!("failed to connect to `{}`: {cause}", server.name);
    let pools = match timeout(CONNECT, Pools::of_term(options, term.clone())).await {
        Ok(Ok(pools)) => Arc::new(pools),
        Ok(Err(error)) => return Err(failed(format!("{error:#}"))),
        Err(_) => {
            return Err(failed(format!(
                "it took longer than {} s",
                CONNECT.as_secs()
            )));
        }
    };
    tracing::info!(
        server = server.name,
        "the server is used: it can be written to"
    );
    Ok(Present {
        place,
        term,
        pools,
        connection,
    })
}

impl Present {
    /// Waits until another server may be the one that can be written to; returns why.
    async fn last(&mut self, servers: &[Candidate]) -> String {
        loop {
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = self.term.doubt.notified() => sleep(SHORTEST).await,
            }
            if let Ok(Ok(Ok(()))) = timeout(CHECK, check(&mut self.connection)).await {
                continue;
            }
            // It may be only this connection that was lost.
            match search(servers, Some(self.place)).await {
                Ok((place, connection)) if place == self.place => self.connection = connection,
                Ok((place, _)) => {
                    let other = &servers[place].name;
                    return format!("it cannot be written to, and `{other}` can");
                }
                Err(reason) => return reason,
            }
        }
    }
}
