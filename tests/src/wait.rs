//! Waiting: no wait is longer than its own limit, nor does it outlast the deadline of the scenario on its thread.

use std::cell::Cell;
use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::bail;

const POLL: Duration = Duration::from_millis(50);

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Sets the deadline of every wait on this thread.
pub(crate) fn set_deadline(deadline: Instant) {
    DEADLINE.set(Some(deadline));
}

/// Removes this thread's deadline: what follows is cleanup, which keeps the limits of its own waits.
pub(crate) fn lift_deadline() {
    DEADLINE.set(None);
}

/// One wait, from its start.
#[derive(Debug)]
pub(crate) struct Wait {
    started: Instant,
    limit: Duration,
}

impl Wait {
    pub(crate) fn new(limit: Duration) -> Wait {
        Wait {
            started: Instant::now(),
            limit,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Fails when the time for `what` is over. The scenario's deadline fails one wait and is then lifted.
    pub(crate) fn check(&self, what: impl Display) -> anyhow::Result<()> {
        let past_deadline = DEADLINE.get().is_some_and(|end| Instant::now() >= end);
        if past_deadline {
            lift_deadline();
        }
        if past_deadline || self.elapsed() >= self.limit {
            bail!(
                "timed out after {:.0} s waiting for {what}",
                self.elapsed().as_secs_f64()
            );
        }
        Ok(())
    }
}

/// Polls `condition` until it holds; `what` completes "waiting for".
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let wait = Wait::new(limit);
    while !condition()? {
        wait.check(what)?;
        std::thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_its_condition() {
        let mut polls = 0;
        let waited = eventually("the third poll", Duration::from_secs(60), || {
            polls += 1;
            Ok(polls == 3)
        });
        assert!(waited.is_ok());
        assert_eq!(polls, 3);
    }

    #[test]
    fn a_wait_that_is_too_long_names_what_it_waited_for() {
        let waited = eventually("the lock", Duration::ZERO, || Ok(false));
        assert_eq!(
            waited.unwrap_err().to_string(),
            "timed out after 0 s waiting for the lock"
        );
    }

    #[test]
    fn the_deadline_ends_one_wait_and_leaves_cleanup_its_own_limits() {
        set_deadline(Instant::now());
        let hour = Duration::from_secs(3600);
        assert!(Wait::new(hour).check("the story").is_err());
        assert!(Wait::new(hour).check("its cleanup").is_ok());
    }
}
