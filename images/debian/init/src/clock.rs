//! The guest's clock: it stops while the guest is paused, and the machine's real-time clock does not.
//!
//! What counts is how the real-time clock runs against the kernel's count of time since the boot. So a clock that somebody
//! set on purpose stays as far off as it was.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::say;

/// Whole seconds since 1970, from the machine's real-time clock.
const RTC: &str = "/sys/class/rtc/rtc0/since_epoch";
/// In seconds. Above what reading the real-time clock in a busy guest may be late.
const TOLERATED: f64 = 0.1;
/// How often the real-time clock is read while its next second is waited for: the precision of what is set.
const POLL: Duration = Duration::from_millis(5);

/// The real-time clock, as it was against the time since the boot.
pub(crate) struct Clock {
    /// In seconds.
    booted: f64,
}

impl Clock {
    pub(crate) fn start() -> Result<Clock> {
        Ok(Clock { booted: measure()? })
    }

    /// Adds the time for which the guest was paused. Must be called at times that are spread over the second.
    pub(crate) fn follow(&mut self) -> Result<()> {
        let before = now(ClockId::Monotonic);
        let second = read()? as f64;
        let after = now(ClockId::Monotonic);
        // The real-time clock is somewhere in this second.
        let least = second - after - self.booted;
        let most = second + 1.0 - before - self.booted;
        if least <= TOLERATED && most >= -TOLERATED {
            return Ok(());
        }
        // At once to the second, and then exactly.
        let roughly = if least > 0.0 { least } else { most };
        advance(roughly)?;
        let booted = measure()?;
        let passed = booted - self.booted;
        advance(passed - roughly)?;
        self.booted = booted;
        say(&format!(
            "adjusted the clock by {passed:.2} s: the guest was paused, or the host's clock changed"
        ));
        Ok(())
    }
}

/// What the real-time clock said at the boot, by the start of its next second. QEMU's is up to a second behind the host's,
/// and stays so.
fn measure() -> Result<f64> {
    let second = read()?;
    loop {
        let next = read()?;
        if next != second {
            return Ok(next as f64 - now(ClockId::Monotonic));
        }
        sleep(POLL);
    }
}

fn read() -> Result<i64> {
    let text = fs::read_to_string(RTC).with_context(|| format!("failed to read `{RTC}`"))?;
    let text = text.trim();
    text.parse()
        .with_context(|| format!("the real-time clock has the invalid value `{text}`"))
}

fn now(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn advance(by: f64) -> Result<()> {
    let seconds = now(ClockId::Realtime) + by;
    let time = Timespec {
        tv_sec: seconds as i64,
        tv_nsec: (seconds.fract() * 1e9) as i64,
    };
    clock_settime(ClockId::Realtime, time).context("failed to set the clock")
}
