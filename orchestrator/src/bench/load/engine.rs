//! When calls are sent: at a rate, independent of the target, or by users who each wait for an answer before the next call.
//!
//! Latency counts from the time for which a call was intended. A target that stalls delays the calls that were due
//! meanwhile, and their waiting is part of their latency ("coordinated omission" is to leave it out).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::call::{Failure, Status};
use super::client::Client;
use super::pacer::Pacer;
use super::record::{Record, Timed, add, histogram};

/// How long a sender that is behind may send after the end.
const GRACE: Duration = Duration::from_millis(100);
/// The pause of a user after a call without a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// Calls that are sent at once before the answers get their turn.
const BURST: u64 = 16;

/// Who decides when the next call is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// The clock: calls a second.
    Open { rate: f64 },
    /// Each of this many users, after its answer.
    Closed { users: usize },
}

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub schedule: Schedule,
    /// The time before the measurement; its calls do not count.
    pub warm_up: Duration,
    /// The time of the measurement.
    pub time: Duration,
    /// The time limit of a call.
    pub limit: Duration,
}

/// All calls so far, with those of the warm-up.
#[derive(Debug, Default)]
pub struct Counts {
    pub ended: AtomicU64,
    pub failed: AtomicU64,
}

/// What was measured, and how well it was sent.
pub struct Measured {
    pub(super) record: Record,
    pub(super) sent: Sent,
    /// The time in which measured calls were sent.
    pub(super) time: Duration,
    /// Whether the run was ended before its time.
    pub(super) early: bool,
}

impl Measured {
    /// The measured calls of a traced run, in the order of their ends.
    pub fn calls(&self) -> &[Timed] {
        self.record.calls()
    }
}

/// How well the sender kept to its schedule.
pub(super) struct Sent {
    /// The measured calls.
    pub calls: u64,
    /// Measured calls that were due and not sent.
    pub unsent: u64,
    /// How much of the time the sender's thread was running or waiting for a processor: with 1, it was too slow.
    pub busy: f64,
    /// How much later than intended, in nanoseconds.
    pub late: Histogram<u64>,
    /// Calls in flight whose end was not waited for.
    pub abandoned: u64,
}

struct Run {
    client: Client,
    counts: Arc<Counts>,
    limit: Duration,
    record: Mutex<Record>,
    begin: Instant,
    measure: Instant,
    end: Instant,
    stop: CancellationToken,
    cancel: CancellationToken,
}

/// Sends the load from one thread until its time is over or `cancel` ends it, and waits for the answers.
pub async fn run(
    load: &Load,
    client: Client,
    counts: Arc<Counts>,
    cancel: &CancellationToken,
) -> io::Result<Measured> {
    let stop = CancellationToken::new();
    run_until(load, client, counts, Record::new(), &stop, cancel).await
}

/// [`run`] that keeps the time of each call. `stop` ends it early, too, and waits for the answers.
pub async fn traced(
    load: &Load,
    client: Client,
    stop: &CancellationToken,
    cancel: &CancellationToken,
) -> io::Result<Measured> {
    let record = Record::traced();
    run_until(load, client, Arc::default(), record, stop, cancel).await
}

async fn run_until(
    load: &Load,
    client: Client,
    counts: Arc<Counts>,
    record: Record,
    stop: &CancellationToken,
    cancel: &CancellationToken,
) -> io::Result<Measured> {
    let begin = Instant::now();
    let busy = busy();
    let measure = begin + load.warm_up;
    let run = Arc::new(Run {
        client,
        counts,
        limit: load.limit,
        record: Mutex::new(record),
        begin,
        measure,
        end: measure + load.time,
        stop: stop.clone(),
        cancel: cancel.clone(),
    });
    let mut sent = match load.schedule {
        Schedule::Open { rate } => open(&run, rate).await?,
        Schedule::Closed { users } => closed(&run, users).await,
    };
    let spent = self::busy().saturating_sub(busy);
    sent.busy = spent.as_secs_f64() / begin.elapsed().as_secs_f64();
    let early = cancel.is_cancelled();
    let time = match early || stop.is_cancelled() {
        true => Instant::now()
            .min(run.end)
            .saturating_duration_since(measure),
        false => load.time,
    };
    let mut record = run.record.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured {
        record: std::mem::replace(&mut record, Record::new()),
        sent,
        time,
        early,
    })
}

/// The time that this thread ran or waited for a processor so far: proc(5), `schedstat`. Zero where the kernel does not count it.
fn busy() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let times = counted.split_whitespace().take(2);
    Duration::from_nanos(times.filter_map(|time| time.parse::<u64>().ok()).sum())
}

async fn open(run: &Arc<Run>, rate: f64) -> io::Result<Sent> {
    let pacer = Pacer::new()?;
    let slots = u32::try_from(run.client.room()).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(slots as usize));
    let mut sent = Sent::new();
    let due = |number: u64| run.begin + Duration::from_secs_f64(number as f64 / rate);
    let until = |at: Instant| ((at - run.begin).as_secs_f64() * rate).ceil() as u64;
    let mut number = 0;
    while due(number) < run.end {
        let intended = due(number);
        tokio::select! {
            biased;
            () = run.cancel.cancelled() => break,
            () = run.stop.cancelled() => break,
            waited = pacer.until(intended) => waited?,
        }
        if number % BURST == 0 {
            yield_now().await;
        }
        let measured = intended >= run.measure;
        if !measured && Instant::now() >= run.measure {
            // What the warm-up did not get to is not sent within the measured time.
            number = until(run.measure).max(number + 1);
            continue;
        }
        let permit = match room.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let deadline = (run.end + GRACE).into();
                tokio::select! {
                    permit = room.clone().acquire_owned() => permit.map_err(io::Error::other)?,
                    () = run.cancel.cancelled() => break,
                    () = run.stop.cancelled() => break,
                    () = tokio::time::sleep_until(deadline) => break,
                }
            }
        };
        let now = Instant::now();
        if now > run.end + GRACE {
            break;
        }
        if measured {
            sent.calls += 1;
            add(&mut sent.late, now - intended);
        }
        let run = run.clone();
        tokio::spawn(async move {
            run.call(number, intended).await;
            drop(permit);
        });
        number += 1;
    }
    let stopped = Instant::now().clamp(run.begin, run.end);
    if due(number) < stopped {
        sent.unsent = until(stopped).saturating_sub(number.max(until(run.measure)));
    }
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => {
            sent.abandoned = u64::from(slots) - room.available_permits() as u64;
        }
        // Each call has a time limit, so this ends.
        _ = room.acquire_many(slots) => {}
    }
    Ok(sent)
}

async fn closed(run: &Arc<Run>, users: usize) -> Sent {
    let numbers = Arc::new(AtomicU64::new(0));
    let measured = Arc::new(AtomicU64::new(0));
    let mut all = JoinSet::new();
    for _ in 0..users {
        let (run, numbers, measured) = (run.clone(), numbers.clone(), measured.clone());
        all.spawn(async move {
            loop {
                let now = Instant::now();
                if now >= run.end || run.stop.is_cancelled() || run.cancel.is_cancelled() {
                    return;
                }
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let status = run.call(number, now).await;
                if now >= run.measure {
                    measured.fetch_add(1, Ordering::Relaxed);
                }
                if status == Some(Status::NotConnected) {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    let mut sent = Sent::new();
    loop {
        tokio::select! {
            ended = all.join_next() => if ended.is_none() { break },
            () = run.cancel.cancelled() => {
                sent.abandoned = all.len() as u64;
                break;
            }
        }
    }
    sent.calls = measured.load(Ordering::Relaxed);
    sent
}

impl Sent {
    fn new() -> Sent {
        Sent {
            calls: 0,
            unsent: 0,
            busy: 0.0,
            late: histogram(),
            abandoned: 0,
        }
    }
}

impl Run {
    /// Calls, counted from 0, and records it if it was intended for the measured time. Returns how it failed.
    async fn call(&self, number: u64, intended: Instant) -> Option<Status> {
        let call = timeout(self.limit, self.client.call(number + 1));
        let result = match call.await {
            Ok(result) => result,
            Err(_) => Err(Failure::timed_out(self.limit)),
        };
        let latency = intended.elapsed();
        let status = result.as_ref().err().map(|failure| failure.status);
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        if status.is_some() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(at) = intended.checked_duration_since(self.measure) {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.add(at, latency, result);
        }
        status
    }
}
