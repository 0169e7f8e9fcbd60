//! What a process that stops waits for: calls, and the bytes of their answers.
//!
//! A caller whose machine is gone never confirms that its connection is closed. Waiting for connections would take as long as
//! the drain's deadline, so only calls and bytes count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Callers that read have time to take their answers, and to close their connections.
const QUIET: Duration = Duration::from_secs(1);

/// The calls and the bytes of one listener's connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity {
    calls: TaskTracker,
    /// Bytes to all callers.
    written: Arc<AtomicU64>,
}

impl Activity {
    /// A call, until the token is dropped.
    pub(crate) fn call(&self) -> TaskTrackerToken {
        self.calls.token()
    }

    /// Counts bytes that a connection took.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns when there was no call, and no byte was written, for a second.
    pub(crate) async fn ends(&self) {
        self.calls.close();
        loop {
            self.calls.wait().await;
            let before = self.written.load(Ordering::Relaxed);
            tokio::time::sleep(QUIET).await;
            if self.calls.is_empty() && self.written.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}
