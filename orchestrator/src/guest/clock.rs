//! A guest's clock: it stops while the guest is paused or saved, and TLS depends on it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use pspd_model::harm::Offset;

use super::Guest;

/// What an answer of a busy emulated guest takes, at most.
const TOLERATED: f64 = 0.15;
/// Above this, a person wants to know.
const NOTED: f64 = 10.0;
/// The guest says the time this often: the quickest answer counts.
const ASK: &str = "date +%s.%N; date +%s.%N; date +%s.%N; date +%s.%N";
const ANSWER: Duration = Duration::from_secs(30);

/// How far a clock is from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    Behind(Duration),
    Ahead(Duration),
}

impl Skew {
    /// A skew that a person wants to know of; `None` if it is a small one.
    fn noted(behind: f64) -> Option<Skew> {
        let time = Duration::try_from_secs_f64(behind.abs()).unwrap_or(Duration::MAX);
        match behind {
            _ if behind.abs() <= NOTED => None,
            0.0.. => Some(Skew::Behind(time)),
            _ => Some(Skew::Ahead(time)),
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
    /// Sets the guest's clock to the host's, or as far off as a fault asks for, to about a tenth of a second; says how wrong
    /// it was where that matters to a person.
    pub fn set_clock(&self, off: Offset) -> anyhow::Result<Option<Skew>> {
        let mut behind: Option<f64> = None;
        self.session
            .lines(ASK, Some(ANSWER), |line| {
                if let (Ok(host), Some(guest)) = (now(), said(line)) {
                    let late = host.as_secs_f64() + off.0 as f64 - guest;
                    behind = Some(behind.map_or(late, |least| least.min(late)));
                }
                true
            })
            .context("failed to read the clock")?;
        let behind = behind.context("the guest has no clock")?;
        if (0.0..=TOLERATED).contains(&behind) {
            return Ok(None);
        }
        // Not every `date` can count from the present.
        let set = format!(
            "date -u -s '{behind:+.3} seconds' >/dev/null 2>&1 || date -u -s @{} >/dev/null",
            now()?.as_secs().saturating_add_signed(off.0)
        );
        self.session.script("set the clock", &set)?;
        Ok(Skew::noted(behind))
    }
}

/// The seconds since 1970 that a guest says; without the fraction where its `date` has none.
fn said(line: &str) -> Option<f64> {
    let line = line.trim();
    let whole = || line.split_once('.')?.0.parse().ok();
    line.parse().ok().or_else(whole)
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
    fn a_person_hears_of_a_clock_that_is_far_off() {
        for small in [0.0, 0.2, -0.2, 10.0, -10.0] {
            assert_eq!(Skew::noted(small), None, "{small}");
        }
        let seconds = Duration::from_secs;
        assert_eq!(Skew::noted(11.0), Some(Skew::Behind(seconds(11))));
        assert_eq!(Skew::noted(-11.0), Some(Skew::Ahead(seconds(11))));
    }

    #[test]
    fn the_time_is_read_with_and_without_a_fraction() {
        assert_eq!(said("1795791327.250000000\n"), Some(1_795_791_327.25));
        assert_eq!(said("1795791327"), Some(1_795_791_327.0));
        assert_eq!(said("1795791327.%N"), Some(1_795_791_327.0));
        assert_eq!(said("-5.5"), Some(-5.5));
        assert_eq!(said("no clock"), None);
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
