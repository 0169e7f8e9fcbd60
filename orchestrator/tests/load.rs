//! `pspd bench load` on servers of known behavior, on loopback. One test at a time: they measure. What is asserted holds on a
//! machine of any speed: a slow one sends less, and nothing is quicker than its server.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use pspd::bench::load::{Client, End, Line, Load, Results, Schedule, lines, run, table, traced};
use pspd::reach::Reach;
use pspd::reflection::Target;

static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How a server answers `Check`, by the service that is asked for.
#[derive(Clone)]
struct Server {
    /// From `from` to `to` no answer is given: all are given at `to`.
    stall: Option<(Duration, Duration)>,
    started: Instant,
    calls: Arc<AtomicU64>,
}

/// The time that a call takes which asks for no service.
const DELAY: Duration = Duration::from_millis(20);

#[tonic::async_trait]
impl Health for Server {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some((from, to)) = self.stall {
            let now = self.started.elapsed();
            if from <= now && now < to {
                sleep_until(self.started + to).await;
            }
        }
        match request.get_ref().service.as_str() {
            "" => sleep(DELAY).await,
            name if name.starts_with("fast") => {}
            "hangs" => sleep(Duration::from_secs(60)).await,
            "busy" => return Err(Status::resource_exhausted("come again")),
            other => return Err(Status::not_found(format!("no service `{other}`"))),
        }
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = futures::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(futures::stream::empty()))
    }
}

/// Starts a server on a thread of its own, so that it and the load do not wait for each other.
fn serve(stall: Option<(Duration, Duration)>) -> (SocketAddr, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let server = Server {
                stall,
                started: Instant::now(),
                calls: counted,
            };
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1alpha()
                .unwrap();
            tonic::transport::Server::builder()
                .add_service(HealthServer::new(server))
                .add_service(reflection)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        })
    });
    (receiver.recv().unwrap(), calls)
}

fn target(address: SocketAddr) -> Target {
    Target::plain(Reach::Direct, address)
}

fn load(schedule: Schedule, warm_up: u64, time: u64) -> Load {
    Load {
        schedule,
        warm_up: Duration::from_millis(warm_up),
        time: Duration::from_millis(time),
        limit: Duration::from_secs(5),
    }
}

async fn measured(load: &Load, client: Client, cancel: &CancellationToken) -> Results {
    let measured = run(load, client, Arc::default(), cancel).await.unwrap();
    Results::new("target".into(), "call".into(), 1, load, &measured)
}

async fn check(address: SocketAddr, payload: &str) -> Client {
    let lines = lines("payload", payload).unwrap();
    let client = Client::grpc(&target(address), "Check", &lines, 1).await;
    client.unwrap()
}

async fn checked(address: SocketAddr, payload: &str, load: &Load) -> Results {
    let client = check(address, payload).await;
    measured(load, client, &CancellationToken::new()).await
}

fn percentile(results: &Results, wanted: f64) -> f64 {
    let mut all = results.latency.percentiles.iter();
    all.find(|one| one.percentile == wanted).unwrap().ms
}

#[tokio::test]
async fn a_rate_is_kept_and_latencies_are_those_of_the_target() {
    let _one = ONE.lock().await;
    let (address, calls) = serve(None);
    let results = checked(
        address,
        "{}",
        &load(Schedule::Open { rate: 100.0 }, 500, 2000),
    )
    .await;
    let sent = results.sender.sent;
    assert_eq!((results.calls, results.succeeded), (sent, sent));
    assert_eq!(sent + results.sender.unsent, 200);
    let answered = calls.load(Ordering::Relaxed);
    assert!((sent..=sent + 50).contains(&answered), "with the warm-up");
    assert!(results.latency.minimum_ms >= 20.0, "{results:?}");
    let counts: Vec<u64> = results.per_second.iter().map(|one| one.succeeded).collect();
    assert_eq!(counts.iter().sum::<u64>(), sent);
    assert!(
        counts.len() <= 2 && counts.iter().all(|count| *count <= 100),
        "{counts:?}"
    );
}

/// A second of 200 calls of 4 seconds finds no answer. Callers who do not wait see it in a quarter of their calls, as their
/// percentiles show; users who wait make one call in that time, and theirs hide it.
#[tokio::test]
async fn a_stall_of_the_target_is_in_the_percentiles_of_a_rate() {
    let _one = ONE.lock().await;
    let stall = Some((Duration::from_secs(1), Duration::from_secs(2)));
    let (address, _) = serve(stall);
    let fast = "{\"service\": \"fast\"}";
    let open = checked(
        address,
        fast,
        &load(Schedule::Open { rate: 200.0 }, 0, 4000),
    )
    .await;
    assert_eq!((open.succeeded, open.failed), (open.sender.sent, 0));
    assert_eq!(open.sender.sent + open.sender.unsent, 800);
    assert!(percentile(&open, 90.0) >= 500.0, "{open:?}");
    assert!(percentile(&open, 99.9) >= 900.0, "{open:?}");

    let (address, _) = serve(stall);
    let closed = checked(address, fast, &load(Schedule::Closed { users: 1 }, 0, 4000)).await;
    assert!(closed.calls > 100, "{closed:?}");
    assert!(
        percentile(&closed, 99.0) < percentile(&open, 90.0),
        "{closed:?}"
    );
    assert!(closed.latency.maximum_ms > 900.0, "{closed:?}");
    assert!(
        closed.notes[0].contains("a slow target receives fewer calls"),
        "{closed:?}"
    );
}

/// Where no more calls fit in flight, those that wait for room count from when they were due.
#[tokio::test]
async fn a_stall_is_in_the_percentiles_of_a_rate_with_little_room() {
    let _one = ONE.lock().await;
    let (address, _) = serve(Some((Duration::from_secs(1), Duration::from_secs(2))));
    let client = check(address, "{\"service\": \"fast\"}").await;
    let load = load(Schedule::Open { rate: 500.0 }, 0, 4000);
    let results = measured(&load, client, &CancellationToken::new()).await;
    assert_eq!(results.calls + results.sender.unsent, 2000);
    assert!(results.sender.late_maximum_ms > 400.0, "{results:?}");
    assert!(percentile(&results, 90.0) >= 500.0, "{results:?}");
}

#[tokio::test]
async fn failures_are_counted_by_status_with_a_message() {
    let _one = ONE.lock().await;
    let (address, _) = serve(None);
    let payload = "{\"service\": \"fast\"}\n{\"service\": \"busy\"}\n{\"service\": \"x-{{n}}\"}\n{\"service\": \"busy\"}";
    let load = load(Schedule::Open { rate: 200.0 }, 0, 1000);
    let results = checked(address, payload, &load).await;
    // The lines in turn: of those that were sent.
    let of = |lines: &[u64]| {
        (0..results.sender.sent)
            .filter(|call| lines.contains(&(call % 4)))
            .count() as u64
    };
    assert_eq!(
        (results.succeeded, results.failed),
        (of(&[0]), of(&[1, 2, 3]))
    );
    let failures: Vec<_> = results
        .failures
        .iter()
        .map(|one| (one.status.as_str(), one.calls, one.message.as_str()))
        .collect();
    assert_eq!(
        failures,
        [
            ("RESOURCE_EXHAUSTED", of(&[1, 3]), "come again"),
            ("NOT_FOUND", of(&[2]), "no service `x-2`")
        ]
    );
    assert_eq!(results.latency.calls, of(&[0]));
    let text = table(&results);
    let mut lines = text.lines();
    let row = lines.find(|line| line.contains("| RESOURCE_EXHAUSTED |"));
    assert!(row.unwrap().contains("| come again"), "{text}");
}

#[tokio::test]
async fn calls_without_an_answer_count_with_the_time_that_they_waited() {
    let _one = ONE.lock().await;
    let (address, _) = serve(None);
    let load = Load {
        limit: Duration::from_millis(300),
        ..load(Schedule::Open { rate: 20.0 }, 0, 500)
    };
    let results = checked(address, "{\"service\": \"hangs\"}", &load).await;
    let sent = results.sender.sent;
    assert!((1..=10).contains(&sent), "{results:?}");
    assert_eq!((results.succeeded, results.failed), (0, sent));
    assert_eq!(results.failures[0].status, "no answer in time");
    assert_eq!(results.latency.calls, sent);
    assert!(results.latency.minimum_ms >= 300.0, "{results:?}");
}

#[tokio::test]
async fn a_rate_that_cannot_be_reached_is_reported_with_its_cause() {
    let _one = ONE.lock().await;
    let (address, _) = serve(None);
    // JSON that is read again for each call takes longer than the server's work.
    let long = format!(
        "{{\"service\": \"fast {} {{{{n}}}}\"}}",
        "\\u00e4".repeat(20_000)
    );
    let busy = load(Schedule::Open { rate: 10_000.0 }, 1000, 1000);
    let results = checked(address, &long, &busy).await;
    assert!(results.sender.unsent > 5000, "{:?}", results.sender);
    assert_eq!(results.sender.sent + results.sender.unsent, 10_000);
    // What the warm-up could not send takes nothing from the measured time.
    let rate = results.sender.rate;
    assert!(0.0 < rate && rate < 5000.0, "{:?}", results.sender);
    assert!(
        results.notes[0].contains("sending thread was busy"),
        "{:?} {:?}",
        results.sender,
        results.notes
    );

    // 256 calls are in flight and get no answer.
    let (address, _) = serve(Some((Duration::ZERO, Duration::from_secs(60))));
    let slow = load(Schedule::Open { rate: 1000.0 }, 0, 1000);
    let results = checked(address, "{}", &slow).await;
    assert_eq!((results.sender.sent, results.sender.unsent), (256, 744));
    assert_eq!(results.failures[0].calls, 256);
    assert!(
        results.notes[0].contains("the target answered slowly"),
        "{results:?}"
    );
}

#[tokio::test]
async fn a_target_that_is_down_and_a_bad_payload_are_errors_before_the_load() {
    let _one = ONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = listener.local_addr().unwrap();
    drop(listener);
    let failed = |address, method: &'static str, payload: &'static str| async move {
        let lines = lines("payload", payload).unwrap();
        let client = Client::grpc(&target(address), method, &lines, 1).await;
        format!("{:#}", client.err().unwrap())
    };
    let error = failed(down, "Check", "{}").await;
    assert!(
        error.starts_with(&format!("failed to connect to {down}. `pspd status` shows")),
        "{error}"
    );
    assert!(error.contains("Connection refused"), "{error}");

    let (address, calls) = serve(None);
    let error = failed(address, "Chekc", "{}").await;
    assert_eq!(
        error,
        "the service has no method `Chekc`. Its methods: `grpc.health.v1.Health/Check`, `grpc.health.v1.Health/Watch`"
    );
    let error = failed(address, "Check", "{}\n{\"servise\": \"a\"}").await;
    assert_eq!(
        error,
        "payload, line 2: not a message of type `grpc.health.v1.HealthCheckRequest`: unrecognized field name 'servise' at \
         line 1 column 10"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_target_that_ends_and_returns_is_reconnected() {
    let _one = ONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (up, _) = serve(None);
    // A relay that ends after a second, and begins again half a second later.
    let relay = move |listener: TcpListener| async move {
        let mut open = tokio::task::JoinSet::new();
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            open.spawn(async move {
                let mut to = tokio::net::TcpStream::connect(up).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    };
    let first = tokio::spawn(relay(listener));
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        first.abort();
        sleep(Duration::from_millis(500)).await;
        let again = TcpListener::bind(address).await.unwrap();
        relay(again).await;
    });
    let load = load(Schedule::Open { rate: 100.0 }, 0, 5000);
    let results = checked(address, "{\"service\": \"fast\"}", &load).await;
    let mut statuses = results.failures.iter().map(|one| &one.status);
    assert!(
        statuses.any(|status| status == "no connection"),
        "{results:?}"
    );
    let last = results.per_second.last().unwrap();
    assert_eq!(last.failed, 0, "{results:?}");
    assert!(last.succeeded > 0, "{results:?}");
}

#[tokio::test]
async fn a_signal_ends_the_load_and_keeps_what_was_measured() {
    let _one = ONE.lock().await;
    let (address, _) = serve(None);
    for schedule in [
        Schedule::Open { rate: 100.0 },
        Schedule::Closed { users: 2 },
    ] {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            token.cancel();
        });
        let client = check(address, "{}").await;
        let results = measured(&load(schedule, 0, 60_000), client, &cancel).await;
        assert!(results.ended_early && results.seconds < 60.0, "{results:?}");
        assert!((1..6000).contains(&results.succeeded), "{results:?}");
        assert!(
            results
                .notes
                .iter()
                .any(|note| note.starts_with("ended early"))
        );
    }
}

#[tokio::test]
async fn requests_by_http_are_counted_by_status() {
    let _one = ONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream));
        }
    });
    let path = Line::parse("path", "/documents/{{n}}").unwrap();
    let bodies = lines("bodies", "{\"n\": {{n}}}").unwrap();
    let client = Client::http(&target(address), path, bodies, 8).await;
    let load = load(Schedule::Open { rate: 200.0 }, 0, 1000);
    let results = measured(&load, client.unwrap(), &CancellationToken::new()).await;
    let refused = results.sender.sent / 10;
    assert_eq!(
        (results.succeeded, results.failed),
        (results.sender.sent - refused, refused)
    );
    let failures: Vec<_> = results
        .failures
        .iter()
        .map(|one| (one.status.as_str(), one.calls))
        .collect();
    assert_eq!(failures, [("503", refused)]);
}

/// Answers requests whose path and body name the same number; those that end with a zero with 503 and the connection's end.
async fn answer(stream: tokio::net::TcpStream) {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(text) = head[from..].to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let path = head.strip_prefix("POST /documents/").unwrap();
        let number = path.split(' ').next().unwrap();
        assert_eq!(body, format!("{{\"n\": {number}}}").into_bytes());
        let last = number.ends_with('0');
        let answer: &[u8] = match last {
            true => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            false => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        stream.write_all(answer).await.unwrap();
        if last {
            return;
        }
    }
}

#[tokio::test]
async fn a_traced_load_that_is_stopped_waits_for_its_answers() {
    let _one = ONE.lock().await;
    let (address, _) = serve(None);
    for schedule in [
        Schedule::Open { rate: 100.0 },
        Schedule::Closed { users: 4 },
    ] {
        let client = check(address, "{}").await;
        let (load, stop) = (load(schedule, 0, 60_000), CancellationToken::new());
        let stopped = stop.clone();
        let began = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_millis(300)).await;
            stopped.cancel();
        });
        let measured = traced(&load, client, &stop, &CancellationToken::new())
            .await
            .unwrap();
        assert!(began.elapsed() < Duration::from_secs(30));
        let calls = measured.calls();
        let succeeded = calls
            .iter()
            .all(|call| call.end == End::Succeeded && call.latency >= DELAY);
        assert!(!calls.is_empty() && succeeded, "{calls:?}");
        let results = Results::new("target".into(), "call".into(), 1, &load, &measured);
        assert_eq!(
            (results.calls, results.sender.abandoned),
            (calls.len() as u64, 0)
        );
        assert_eq!(results.sender.sent, results.calls);
        assert!(
            results.seconds < 30.0 && !results.ended_early,
            "{results:?}"
        );
    }
}
