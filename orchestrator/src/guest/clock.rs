//! A guest's clock: it stands still while the guest is paused or saved, and TLS depends on it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use super::Guest;

/// A busy emulated guest answers late; services do not mind this much.
const TOLERATED: Duration = Duration::from_secs(10);

/// How far a clock is from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    Behind(Duration),
    Ahead(Duration),
}

impl Skew {
    /// The skew of a clock that was read between two moments of the host; `None` if it is tolerated.
    fn of(clock: Duration, before: Duration, after: Duration) -> Option<Skew> {
        let (behind, ahead) = (before.saturating_sub(clock), clock.saturating_sub(after));
        if behind > TOLERATED {
            Some(Skew::Behind(behind))
        } else if ahead > TOLERATED {
            Some(Skew::Ahead(ahead))
        } else {
            None
        }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, where_to) = match self {
            Skew::Behind(time) => (time, "behind"),
            Skew::Ahead(time) => (time, "ahead"),
        };
        match time.as_secs() {
            seconds @ ..120 => write!(f, "{seconds} s {where_to}"),
            seconds @ ..7200 => write!(f, "{} min {where_to}", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h {where_to}", seconds / 3600),
            seconds => write!(f, "{} days {where_to}", seconds / 86400),
        }
    }
}

impl Guest {
    /// Sets the guest's clock to the host's, if it is wrong; says how wrong it was.
    pub fn set_clock(&self) -> anyhow::Result<Option<Skew>> {
        let before = now()?;
        let clock = self.session.script("read the clock", "date +%s")?;
        let seconds: i64 = clock.trim().parse().context("the guest has no clock")?;
        // A clock before 1970 is behind as well.
        let clock = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let Some(skew) = Skew::of(clock, before, now()?) else {
            return Ok(None);
        };
        let set = format!("date -u -s @{} >/dev/null", now()?.as_secs());
        self.session.script("set the clock", &set)?;
        Ok(Some(skew))
    }
}

fn now() -> anyhow::Result<Duration> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the host's clock is before 1970")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_where_a_slow_answer_does_not_explain_it() {
        let seconds = Duration::from_secs;
        let skew = |clock| Skew::of(seconds(clock), seconds(1000), seconds(1030));
        for right in [990, 1000, 1030, 1040] {
            assert_eq!(skew(right), None, "{right}");
        }
        assert_eq!(skew(989), Some(Skew::Behind(seconds(11))));
        assert_eq!(skew(1041), Some(Skew::Ahead(seconds(11))));
    }

    #[test]
    fn a_skew_is_shown_in_a_unit_that_fits() {
        let behind = |seconds| Skew::Behind(Duration::from_secs(seconds)).to_string();
        assert_eq!(behind(11), "11 s behind");
        assert_eq!(behind(3600), "60 min behind");
        assert_eq!(behind(86_400), "24 h behind");
        let years = Skew::Ahead(Duration::from_secs(2 * 365 * 86_400));
        assert_eq!(years.to_string(), "730 days ahead");
    }
}
