//! Measures every protocol, operation and number of callers, in rounds: what is compared is measured within the same seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::body::Body;
use hdrhistogram::Histogram;
use http_body_util::BodyExt as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::calls::Calls;
use crate::connector::{Counts, Target, Version};
use crate::handler;
use crate::pool::{Pool, pool};
use crate::protocol::{Kind, Protocol};
use crate::server::{USAGE, Usage};
use crate::usage::processor_time;

/// Records of a stream.
pub const STREAM: u32 = 1000;
/// Records of a bidirectional stream, each of which waits for its echo.
pub const CHAT: u32 = 100;
/// Bytes of a large record's data.
pub const LARGE: usize = 64 * 1024;
/// The part of the measured time for which each case runs before.
const WARM_UP: u32 = 5;
/// What a case may take beyond its time, under emulation too.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    pub rounds: usize,
    /// Of each case in each round. Calls that began in it count.
    pub time: Duration,
    /// Numbers of concurrent callers.
    pub callers: Vec<usize>,
}

/// What one call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    UnarySmall,
    UnaryLarge,
    ServerStream,
    ClientStream,
    Bidirectional,
}

/// The results of one protocol, operation and number of callers.
#[derive(Debug, Serialize)]
pub struct Case {
    pub protocol: Protocol,
    pub operation: Operation,
    pub callers: usize,
    /// The most of a round.
    pub connections: u64,
    pub calls: u64,
    /// Latencies of all rounds, in milliseconds.
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub maximum_ms: f64,
    /// Calls a second, of each round.
    pub throughput: Vec<f64>,
    /// Bytes of the TCP streams for one call, with TLS, without handshakes.
    pub sent_bytes: f64,
    pub received_bytes: f64,
    /// Seconds of processor time for 1,000 calls.
    pub caller_cpu_seconds: f64,
    pub server_cpu_seconds: f64,
}

/// A step of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Progress {
        done: usize,
        total: usize,
        next: String,
    },
    Cases(Vec<Case>),
}

impl Operation {
    pub const ALL: [Operation; 5] = [
        Operation::UnarySmall,
        Operation::UnaryLarge,
        Operation::ServerStream,
        Operation::ClientStream,
        Operation::Bidirectional,
    ];

    pub fn kind(self) -> Kind {
        match self {
            Self::UnarySmall | Self::UnaryLarge => Kind::Unary,
            Self::ServerStream => Kind::ServerStream,
            Self::ClientStream => Kind::ClientStream,
            Self::Bidirectional => Kind::Bidirectional,
        }
    }

    /// Makes one call and checks its answer.
    async fn call(self, calls: &mut dyn Calls) -> anyhow::Result<()> {
        let records = |count| (0..count).map(handler::record).collect::<Vec<_>>();
        let same = match self {
            Self::UnarySmall => {
                let record = handler::record(1);
                calls.echo(record.clone()).await? == record
            }
            Self::UnaryLarge => {
                let mut record = handler::record(1);
                record.data = handler::bytes(1, LARGE);
                calls.echo(record.clone()).await? == record
            }
            Self::ServerStream => calls.list(STREAM).await?.len() == STREAM as usize,
            Self::ClientStream => calls.upload(records(STREAM)).await?.records == STREAM,
            Self::Bidirectional => calls.chat(records(CHAT)).await? == records(CHAT),
        };
        ensure!(same, "the answer is not the expected one");
        Ok(())
    }
}

/// A case while it is measured.
struct Measured {
    protocol: Protocol,
    operation: Operation,
    callers: usize,
    connections: u64,
    /// In nanoseconds.
    latency: Histogram<u64>,
    throughput: Vec<f64>,
    spent: Spent,
}

/// What was used in a time.
#[derive(Clone, Copy, Default)]
struct Spent {
    sent: u64,
    received: u64,
    caller: Duration,
    /// In seconds.
    server: f64,
}

/// Measures, and passes each step to `line`; the results are the last one.
pub async fn run(
    target: &Target,
    plan: &Plan,
    mut line: impl FnMut(Line) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut cases = cases(plan)?;
    let total = plan.rounds * cases.len();
    let server = ServerUsage::new(target);
    for round in 0..plan.rounds {
        for (index, case) in cases.iter_mut().enumerate() {
            line(Line::Progress {
                done: round * total / plan.rounds + index,
                total,
                next: case.title(),
            })?;
            let title = case.title();
            let measured = timeout(
                plan.time * 2 + PATIENCE,
                case.measure(target, plan, &server),
            );
            let measured = measured.await.context("no answer in time");
            measured.and_then(|ended| ended).with_context(|| title)?;
        }
    }
    line(Line::Cases(cases.into_iter().map(Measured::case).collect()))
}

/// Protocols follow each other, so that each is measured beside what it is compared with.
fn cases(plan: &Plan) -> anyhow::Result<Vec<Measured>> {
    let mut cases = Vec::new();
    for operation in Operation::ALL {
        for &callers in &plan.callers {
            for protocol in Protocol::ALL {
                if protocol.has(operation.kind()) {
                    cases.push(Measured {
                        protocol,
                        operation,
                        callers,
                        connections: 0,
                        latency: Histogram::new(3)?,
                        throughput: Vec::new(),
                        spent: Spent::default(),
                    });
                }
            }
        }
    }
    Ok(cases)
}

impl Measured {
    fn title(&self) -> String {
        let operation = match self.operation {
            Operation::UnarySmall => "small unary",
            Operation::UnaryLarge => "unary of 64 KiB",
            Operation::ServerStream => "server stream",
            Operation::ClientStream => "client stream",
            Operation::Bidirectional => "bidirectional stream",
        };
        let callers = match self.callers {
            1 => "1 caller".to_owned(),
            callers => format!("{callers} callers"),
        };
        format!("{}: {operation}, {callers}", self.protocol)
    }

    /// One round.
    async fn measure(
        &mut self,
        target: &Target,
        plan: &Plan,
        server: &ServerUsage,
    ) -> anyhow::Result<()> {
        let (connector, callers) = self.protocol.callers(target, self.callers)?;
        let (callers, _) = call_for(callers, self.operation, plan.time / WARM_UP).await?;
        let before = Spent::now(&connector.counts, server).await?;
        let began = Instant::now();
        let (_callers, latencies) = call_for(callers, self.operation, plan.time).await?;
        let elapsed = began.elapsed();
        let after = Spent::now(&connector.counts, server).await?;
        self.spent.add(&before, &after);
        let connections = connector.counts.connections.load(Ordering::Relaxed);
        self.connections = self.connections.max(connections);
        self.throughput
            .push(latencies.len() as f64 / elapsed.as_secs_f64());
        for latency in latencies {
            self.latency.record(u64::try_from(latency.as_nanos())?)?;
        }
        Ok(())
    }

    fn case(self) -> Case {
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let at = |share| milliseconds(self.latency.value_at_quantile(share));
        let calls = self.latency.len();
        let each = |total: u64| total as f64 / calls as f64;
        let each_1000 = |seconds: f64| seconds / calls as f64 * 1000.0;
        Case {
            protocol: self.protocol,
            operation: self.operation,
            callers: self.callers,
            connections: self.connections,
            calls,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            maximum_ms: milliseconds(self.latency.max()),
            throughput: self.throughput,
            sent_bytes: each(self.spent.sent),
            received_bytes: each(self.spent.received),
            caller_cpu_seconds: each_1000(self.spent.caller.as_secs_f64()),
            server_cpu_seconds: each_1000(self.spent.server),
        }
    }
}

/// Lets all callers call for a time, each when its last call is answered, and once at least.
async fn call_for(
    callers: Vec<Box<dyn Calls>>,
    operation: Operation,
    time: Duration,
) -> anyhow::Result<(Vec<Box<dyn Calls>>, Vec<Duration>)> {
    let end = Instant::now() + time;
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let began = Instant::now();
                operation.call(caller.as_mut()).await?;
                latencies.push(began.elapsed());
                if Instant::now() >= end {
                    return Ok::<_, anyhow::Error>((caller, latencies));
                }
            }
        });
    }
    let (mut callers, mut latencies) = (Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        let (caller, measured) = ended??;
        callers.push(caller);
        latencies.extend(measured);
    }
    Ok((callers, latencies))
}

impl Spent {
    async fn now(counts: &Arc<Counts>, server: &ServerUsage) -> anyhow::Result<Self> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Self {
            server: server.read().await?,
            caller: processor_time(),
            sent: count(&counts.sent),
            received: count(&counts.received),
        })
    }

    fn add(&mut self, before: &Self, after: &Self) {
        self.sent += after.sent - before.sent;
        self.received += after.received - before.received;
        self.caller += after.caller - before.caller;
        self.server += after.server - before.server;
    }
}

/// Asks the server for its processor time, over a connection that is not measured.
struct ServerUsage {
    pool: Pool,
    address: String,
}

impl ServerUsage {
    fn new(target: &Target) -> Self {
        Self {
            pool: pool(&target.connector(Version::Http1)),
            address: format!("https://{}{USAGE}", target.name),
        }
    }

    async fn read(&self) -> anyhow::Result<f64> {
        let request = http::Request::get(&self.address).body(Body::empty())?;
        let response = self.pool.request(request).await;
        let response = response.context("failed to reach the server")?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice::<Usage>(&body)?.cpu_seconds)
    }
}
