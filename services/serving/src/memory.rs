//! Gives freed memory back to the system. It does nothing for threads that end, because the allocator does.
//!
//! A block that another thread frees goes back to the thread that allocated it, which takes it at one of its next
//! allocations. Threads that are idle allocate nothing: what many connections needed would stay with them for good.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use tokio::runtime::Handle;

/// How often threads collect.
pub const PAUSE: Duration = Duration::from_secs(10);
/// A task runs on any worker, so that some may not get one at first.
const ATTEMPTS: usize = 8;

// SAFETY: the declaration is mimalloc's own, and any thread may call it at any time:
// <https://microsoft.github.io/mimalloc/group__extended.html>.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

thread_local! {
    /// The last round in which a worker collected.
    static ROUND: Cell<u64> = const { Cell::new(0) };
}

/// Gives back what others have freed of this thread's memory.
pub fn collect() {
    mi_collect(true);
}

/// Collects on the main thread, which must run it, and on the runtime's workers, from time to time.
pub(crate) async fn give_back() -> Infallible {
    let workers = Handle::current().metrics().num_workers();
    let mut round = 0;
    loop {
        tokio::time::sleep(PAUSE).await;
        round += 1;
        collect();
        let mut collected = 0;
        for _ in 0..ATTEMPTS {
            let tasks = (0..workers).map(|_| tokio::spawn(async move { collect_once(round) }));
            for task in tasks.collect::<Vec<_>>() {
                collected += usize::from(task.await.unwrap_or(false));
            }
            if collected == workers {
                break;
            }
        }
    }
}

/// Whether this thread had not collected in this round.
fn collect_once(round: u64) -> bool {
    let first = ROUND.replace(round) != round;
    if first {
        collect();
    }
    first
}
