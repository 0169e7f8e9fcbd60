//! Several PostgreSQL servers: the one that can be written to is found, left when it cannot be written to, and found again.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_health::ServingStatus::{NotServing, Serving};
use tonic_types::StatusExt as _;

use crate::damage::health;
use crate::nodes::Node;
use crate::server::{Client, Server};

const LIMIT: Duration = Duration::from_secs(120);
/// Longer than any call may take.
const CALL: Duration = Duration::from_secs(100);
const WRITERS: i64 = 8;
/// How many of the service's connections a server has.
const OWN: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'database-server'";

/// A server and its standby, which has everything that is acknowledged.
fn pair() -> (Node, Node) {
    let first = Node::primary();
    let second = first.standby();
    first.synchronous();
    (first, second)
}

/// A service over these servers, and callers that write to it.
async fn in_use(nodes: [&Node; 2]) -> (Server, Client, Writers) {
    let server = Server::start(&url(&nodes.map(Node::host)), &[]);
    let client = server.client().await;
    health(&server, Serving).await;
    let writers = Writers::start(&client);
    writers.continue_to_write().await;
    (server, client, writers)
}

fn url(hosts: &[String]) -> String {
    let hosts = hosts.join(",");
    format!("postgres://test@{hosts}/postgres?sslmode=disable&target_session_attrs=read-write")
}

/// That callers can retry.
fn unavailable(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(retry.is_some_and(|delay| !delay.is_zero()), "{status:?}");
    let reason = &details.error_info().unwrap().reason;
    assert_eq!(reason, "STORE_UNREACHABLE", "{status:?}");
}

/// Each kind of call answers in time that it may be retried.
async fn nothing_is_available(client: &Client) {
    let id = "0863ac6a-0000-7fff-bfff-ffffffffffff";
    let document = json!({"n": -1});
    let calls = async {
        unavailable(&client.create("c", &document).await.unwrap_err());
        unavailable(&client.read("c", id).await.unwrap_err());
        unavailable(&client.update("c", id, &document).await.unwrap_err());
        unavailable(&client.delete("c", id).await.unwrap_err());
        unavailable(&client.query("c", "").await.unwrap_err());
        let counted = client.query_texts("c", r#"{"$count": true}"#).await;
        unavailable(&counted.unwrap_err());
    };
    tokio::time::timeout(CALL, calls).await.unwrap();
}

/// Callers that write all the time, and know what was acknowledged.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<i64>>>,
}

impl Writers {
    fn start(client: &Client) -> Self {
        let mut writers = Self {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            refused: Arc::default(),
            tasks: Vec::new(),
        };
        for writer in 0..WRITERS {
            let task = write(
                client.clone(),
                writer * 1_000_000,
                writers.stop.clone(),
                writers.acknowledged.clone(),
                writers.refused.clone(),
            );
            writers.tasks.push(tokio::spawn(task));
        }
        writers
    }

    /// Waits until more is acknowledged.
    async fn continue_to_write(&self) {
        more(&self.acknowledged, 50).await;
    }

    /// Waits until some are refused.
    async fn are_refused(&self) {
        more(&self.refused, 1).await;
    }

    /// Ends them when they write again; everything that was acknowledged must be found.
    async fn check(self, client: &Client) {
        self.continue_to_write().await;
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for task in self.tasks {
            acknowledged.extend(task.await.unwrap());
        }
        let found: BTreeSet<i64> = client.numbers("c", "").await.into_iter().collect();
        let lost: Vec<_> = acknowledged.iter().filter(|n| !found.contains(n)).collect();
        assert!(
            lost.is_empty(),
            "{lost:?} of {} are lost",
            acknowledged.len()
        );
        println!("{} writes were acknowledged", acknowledged.len());
    }
}

async fn write(
    client: Client,
    first: i64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
) -> Vec<i64> {
    let mut own = Vec::new();
    for n in (first..).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let document = json!({"n": n});
        let created = tokio::time::timeout(CALL, client.create("c", &document)).await;
        match created.unwrap() {
            Ok(_) => {
                own.push(n);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                unavailable(&status);
                refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    own
}

async fn more(count: &AtomicUsize, by: usize) {
    let (enough, began) = (count.load(Ordering::Relaxed) + by, Instant::now());
    while count.load(Ordering::Relaxed) < enough {
        assert!(began.elapsed() < LIMIT, "{count:?} of {enough}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_when_the_primary_is_killed() {
    let (mut first, second) = pair();
    let (server, client, writers) = in_use([&first, &second]).await;

    first.kill();
    health(&server, NotServing).await;
    writers.are_refused().await;
    nothing_is_available(&client).await;

    second.promote();
    health(&server, Serving).await;
    writers.check(&client).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_named_first_is_not_used() {
    let first = Node::primary();
    let second = first.standby();
    let server = Server::start(&url(&[second.host(), first.host()]), &[]);
    let client = server.client().await;
    let id = client.create("c", &json!({"n": 1})).await.unwrap();
    assert_eq!(client.read("c", &id).await.unwrap(), json!({"n": 1}));
    first.wait_for(OWN, "15");
    second.wait_for(OWN, "0");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_read_only_is_left() {
    let (first, second) = pair();
    let (server, client, writers) = in_use([&first, &second]).await;

    // Its connections stay open.
    first.ask("ALTER SYSTEM SET default_transaction_read_only = on");
    first.ask("SELECT pg_reload_conf()");
    health(&server, NotServing).await;
    writers.are_refused().await;
    nothing_is_available(&client).await;
    first.wait_for(OWN, "0");

    second.promote();
    health(&server, Serving).await;
    writers.check(&client).await;
    second.wait_for(OWN, "15");
    server.stop();
}

/// Its lost connections cannot be replaced, and the others were idle.
#[tokio::test(flavor = "multi_thread")]
async fn no_connection_to_a_server_that_is_left_stays() {
    let first = Node::primary();
    let second = first.standby();
    let server = Server::start(&url(&[first.host(), second.host()]), &[]);
    let client = server.client().await;
    client.create("c", &json!({"n": 1})).await.unwrap();
    first.wait_for(OWN, "15");

    let waiting = Waiting::start(&client, &first);
    first.ask("ALTER SYSTEM SET default_transaction_read_only = on");
    first.ask("SELECT pg_reload_conf(), pg_sleep(0.1)");
    waiting.disconnect(&first);
    unavailable(&waiting.refused().await);
    health(&server, NotServing).await;
    first.wait_for(OWN, "0");
    server.stop();
}

/// It does not wait until it has the same number of connections again.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_stops_when_its_only_server_was_lost() {
    let mut only = Node::primary();
    let store = format!("postgres://test@{}/postgres?sslmode=disable", only.host());
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    client.create("c", &json!({"n": 1})).await.unwrap();
    let waiting = Waiting::start(&client, &only);
    only.kill();
    unavailable(&waiting.refused().await);
    server.stop();
}

/// A write that waits in the server.
struct Waiting {
    lock: Child,
    write: JoinHandle<Result<String, Status>>,
}

impl Waiting {
    const FOUND: &str = "FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

    fn start(client: &Client, server: &Node) -> Self {
        let lock = "BEGIN; LOCK TABLE documents; SELECT pg_sleep(100)";
        // It complains when the server is killed.
        let lock = server.psql(lock).stderr(Stdio::null()).spawn().unwrap();
        server.wait_for(
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted",
            "1",
        );
        let client = client.clone();
        let write = tokio::spawn(async move { client.create("c", &json!({"n": 2})).await });
        server.wait_for(&format!("SELECT count(*) {}", Self::FOUND), "1");
        Self { lock, write }
    }

    /// Ends its connection.
    fn disconnect(&self, server: &Node) {
        server.ask(&format!("SELECT pg_terminate_backend(pid) {}", Self::FOUND));
    }

    /// Waits for its answer.
    async fn refused(mut self) -> Status {
        self.lock.kill().unwrap();
        self.lock.wait().unwrap();
        let answer = tokio::time::timeout(CALL, self.write).await;
        answer.unwrap().unwrap().unwrap_err()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_there_and_back_loses_nothing() {
    let mut first = Node::primary();
    let mut second = first.standby();
    let (server, client, writers) = in_use([&first, &second]).await;
    first.stop();
    second.promote();
    writers.continue_to_write().await;

    // The demoted server is a standby of the other one now, and is named first.
    first.follow(&second);
    first.start();
    second.wait_for(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
        "1",
    );
    writers.continue_to_write().await;
    second.wait_for(OWN, "15");

    second.stop();
    first.promote();
    writers.check(&client).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_while_it_is_used_is_left() {
    let (first, second) = pair();
    let (server, client, writers) = in_use([&first, &second]).await;

    // A commit that waits for the standby is certainly among what the frozen server never answers.
    second.signal_all("-STOP");
    first.wait_for(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        "t",
    );
    first.signal_all("-STOP");
    second.signal_all("-CONT");
    health(&server, NotServing).await;
    nothing_is_available(&client).await;
    second.promote();
    health(&server, Serving).await;
    writers.check(&client).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_do_not_answer_do_not_keep_the_service_from_starting() {
    // Connections are made, and nobody accepts them.
    let silent: Vec<_> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let first = Node::primary();
    let mut hosts: Vec<_> = silent
        .iter()
        .map(|silent| silent.local_addr().unwrap().to_string())
        .collect();
    hosts.push(first.host());
    let store = url(&hosts);
    let start = tokio::task::spawn_blocking(move || Server::start(&store, &[]));
    let server = tokio::time::timeout(LIMIT, start).await.unwrap().unwrap();
    server
        .client()
        .await
        .create("c", &json!({"n": 1}))
        .await
        .unwrap();
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_recovers_when_all_servers_were_down() {
    let mut first = Node::primary();
    let mut second = first.standby();
    let (server, client, writers) = in_use([&second, &first]).await;
    second.kill();
    first.kill();
    health(&server, NotServing).await;
    nothing_is_available(&client).await;

    // A standby alone is not enough.
    second.start();
    nothing_is_available(&client).await;
    health(&server, NotServing).await;
    first.start();
    health(&server, Serving).await;
    writers.check(&client).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_use_stays_in_use_while_it_can_be_written_to() {
    let mut first = Node::primary();
    let second = Node::primary();
    first.stop();
    let (server, client, writers) = in_use([&first, &second]).await;

    // Its connections are lost, when another server can be written to that is named first.
    first.start();
    for _ in 0..3 {
        let end = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity
                   WHERE application_name = 'database-server'";
        second.wait_for(end, "t");
        writers.continue_to_write().await;
    }
    writers.check(&client).await;
    assert_eq!(first.ask("SELECT to_regclass('documents') IS NULL"), "t");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_a_read_only_server_can_be_retried() {
    let only = Node::primary();
    let server = Server::start(&url(&[only.host()]), &[]);
    let client = server.client().await;
    let id = client.create("c", &json!({"n": 1})).await.unwrap();
    only.ask("ALTER SYSTEM SET default_transaction_read_only = on");
    only.ask("SELECT pg_reload_conf()");
    let began = Instant::now();
    let refused = loop {
        match client.update("c", &id, &json!({"n": 2})).await {
            Err(status) => break status,
            Ok(()) => assert!(began.elapsed() < LIMIT, "it is never read-only"),
        }
    };
    unavailable(&refused);
    assert!(client.read("c", &id).await.is_ok());
    server.stop();
}
