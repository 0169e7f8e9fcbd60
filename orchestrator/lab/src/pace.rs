//! The pace of restarts of a child process: at once at first, slower while it keeps ending early.

use std::time::{Duration, Instant};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A process that is restarted only after this time counts as one that does not run.
const SLOW_DELAY: Duration = Duration::from_secs(1);

pub(super) struct Pace {
    started: Instant,
    delay: Duration,
}

impl Pace {
    /// Of a process that is started now.
    pub(super) fn new() -> Pace {
        Pace {
            started: Instant::now(),
            delay: FIRST_DELAY,
        }
    }

    /// Notes a start.
    pub(super) fn begin(&mut self) {
        self.started = Instant::now();
    }

    /// Whether the process has ended early several times.
    pub(super) fn is_slow(&self) -> bool {
        self.delay >= SLOW_DELAY
    }

    /// Returns the delay before a restart, which doubles while the process keeps ending early.
    pub(super) fn next_delay(&mut self) -> Duration {
        if self.started.elapsed() > 2 * LONGEST_DELAY {
            self.delay = FIRST_DELAY;
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST_DELAY);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_while_the_process_ends_early() {
        let mut pace = Pace::new();
        let delays: Vec<u128> = (0..11).map(|_| pace.next_delay().as_millis()).collect();
        assert_eq!(
            delays,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000
            ]
        );
        pace.started = Instant::now() - Duration::from_secs(61);
        assert_eq!(pace.next_delay(), FIRST_DELAY);
    }
}
