//! The load generator: concurrent callers, each with one call at a time, for a duration or a count.
//!
//! It knows no protocol: a call is any async closure. Both sides of a comparison are measured by the same generator.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::runtime::Runtime;

/// When callers stop making calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    /// Of all callers together.
    Calls(u64),
}

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub callers: usize,
    pub calls: usize,
    pub elapsed: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

impl Measured {
    /// Calls a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} callers: {:.0} calls/s, p50 {:.2} ms, p99 {:.2} ms",
            self.callers,
            self.throughput(),
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3
        )
    }
}

/// One thread: it leaves the other processors to the server, and needs no wake-ups across threads.
pub(crate) fn load_runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

/// Runs `callers` concurrently. `call` gets the number of its caller (to choose a channel) and its own number, which is
/// unique in the run; the first failure ends the run.
pub(crate) async fn run<F, C, E>(callers: usize, until: Until, call: F) -> anyhow::Result<Measured>
where
    F: Fn(usize, u64) -> C + Send + Sync + 'static,
    C: Future<Output = Result<(), E>> + Send,
    E: Into<anyhow::Error> + Send + 'static,
{
    let call = Arc::new(call);
    let numbers = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let running: Vec<_> = (0..callers)
        .map(|caller| {
            let (call, numbers) = (call.clone(), numbers.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let over = match until {
                        Until::Elapsed(time) => began.elapsed() >= time,
                        Until::Calls(calls) => number >= calls,
                    };
                    if over {
                        return Ok::<_, E>(latencies);
                    }
                    let asked = Instant::now();
                    call(caller, number).await?;
                    latencies.push(asked.elapsed());
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for caller in running {
        let calls = caller.await?.map_err(Into::into);
        latencies.extend(calls.context("a call of the load failed")?);
    }
    let elapsed = began.elapsed();
    ensure!(!latencies.is_empty(), "no call was made");
    latencies.sort_unstable();
    let share = |part: f64| latencies[((latencies.len() - 1) as f64 * part).round() as usize];
    Ok(Measured {
        callers,
        calls: latencies.len(),
        elapsed,
        p50: share(0.50),
        p99: share(0.99),
    })
}
