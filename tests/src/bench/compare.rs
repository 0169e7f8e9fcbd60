//! Two servers of one contract under the same load, in turn within one run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;

use super::load::{Measured, Until, run};
use super::loopback::{Server, processor};
use super::say;
use super::wire::Connection;

/// The numbers of concurrent callers that the targets name.
pub(crate) const CALLERS: [usize; 2] = [16, 128];
pub(crate) const ROUNDS: usize = 3;
const WARM: Duration = Duration::from_millis(500);
pub(crate) const TIME: Duration = Duration::from_secs(3);
/// A typical number for a service's callers: each connection carries many calls.
pub(crate) const CONNECTIONS: usize = 4;

/// A server's method, and the messages that callers send to it in turn.
pub(crate) struct Target<'a> {
    server: &'a Server,
    connections: Arc<[Connection]>,
    messages: Arc<[Bytes]>,
}

impl<'a> Target<'a> {
    pub(crate) async fn open(
        server: &'a Server,
        method: &str,
        messages: Arc<[Bytes]>,
    ) -> anyhow::Result<Target<'a>> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(server.port, method).await?);
        }
        Ok(Target {
            server,
            connections: connections.into(),
            messages,
        })
    }

    /// One round.
    pub(crate) async fn load(&self, callers: usize) -> anyhow::Result<Round> {
        self.load_for(callers, TIME).await
    }

    async fn load_for(&self, callers: usize, time: Duration) -> anyhow::Result<Round> {
        let (connections, messages) = (self.connections.clone(), self.messages.clone());
        let before = (self.server.processor()?, processor("self")?);
        let calls = run(callers, Until::Elapsed(time), move |caller, number| {
            let connection = connections[caller % CONNECTIONS].clone();
            let message = messages[number as usize % messages.len()].clone();
            async move { connection.call(message).await.map(drop) }
        })
        .await?;
        let cores = |spent: Duration| spent.as_secs_f64() / calls.elapsed.as_secs_f64();
        Ok(Round {
            server: cores(self.server.processor()? - before.0),
            load: cores(processor("self")? - before.1),
            calls,
        })
    }
}

/// What a round measured; the processor time of both ends is in cores.
#[derive(Debug)]
pub(crate) struct Round {
    pub calls: Measured,
    server: f64,
    load: f64,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; cores: server {:.2}, load {:.2}",
            self.calls, self.server, self.load
        )
    }
}

/// Measures the service and the baseline in turn after a warm-up, and prints the comparison.
pub(crate) async fn compare(
    name: &str,
    callers: usize,
    sides: [&Target<'_>; 2],
) -> anyhow::Result<()> {
    for side in sides {
        side.load_for(callers, WARM).await?;
    }
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (side, rounds) in sides.into_iter().zip(&mut rounds) {
            rounds.push(side.load(callers).await?);
        }
    }
    let [ours, theirs] = rounds.map(middle);
    let (ours, theirs) = (ours.context("no round")?, theirs.context("no round")?);
    say(&format!(
        "{name}\n  service:  {ours}\n  baseline: {theirs}\n  {:.2} times the baseline's throughput, p99 {:.2} of the baseline's",
        ours.calls.throughput() / theirs.calls.throughput(),
        ours.calls.p99.as_secs_f64() / theirs.calls.p99.as_secs_f64()
    ));
    Ok(())
}

/// The round of median throughput.
fn middle(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|one, other| {
        let (one, other) = (one.calls.throughput(), other.calls.throughput());
        one.total_cmp(&other)
    });
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle)
}
