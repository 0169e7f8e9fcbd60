//! What faults do to disks and within guests: how fast a disk is, what fills it, the guest's clock and its processors.
//!
//! Owns the values and how several add up.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{Name, Size};

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskHarm {
    /// It is slow.
    Slow(Throttle),
    /// Its file system has no space left.
    Full,
    /// Every read and write of its file system fails.
    Fail,
}

/// How fast a disk reads and writes at most, together. `None` is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// In a second.
    pub bytes: Option<Size>,
    /// Operations in a second.
    pub iops: Option<u64>,
}

impl Throttle {
    /// The stricter limit of each kind.
    pub fn and(self, other: Throttle) -> Throttle {
        Throttle {
            bytes: least(self.bytes, other.bytes),
            iops: least(self.iops, other.iops),
        }
    }

    pub fn is_none(self) -> bool {
        self == Throttle::default()
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// In the words of the command that injects it.
impl fmt::Display for DiskHarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskHarm::Slow(Throttle { bytes, iops }) => {
                let bytes = bytes.map(|bytes| {
                    let bytes = bytes.to_string().replace(' ', "");
                    format!("--slow {bytes}/s")
                });
                let iops = iops.map(|iops| format!("--iops {iops}"));
                let words: Vec<String> = bytes.into_iter().chain(iops).collect();
                f.write_str(&words.join(" "))
            }
            DiskHarm::Full => f.write_str("--full"),
            DiskHarm::Fail => f.write_str("--fail"),
        }
    }
}

/// How far a clock is set off, in seconds; ahead where it is positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// With a sign, and in one unit.
impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        match seconds {
            _ if seconds % 3600 == 0 => write!(f, "{:+}h", seconds / 3600),
            _ if seconds % 60 == 0 => write!(f, "{:+}m", seconds / 60),
            _ => write!(f, "{seconds:+}s"),
        }
    }
}

/// All of it means all processors.
pub const WHOLE: u32 = 100;

/// What disturbs a guest from within.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disturbance {
    /// The disks that are full, and where the guest mounts them.
    pub full: BTreeMap<Name, PathBuf>,
    /// The same of those that fail.
    pub failing: BTreeMap<Name, PathBuf>,
    pub clock: Offset,
    /// How much of each processor is burnt, in percent.
    pub burn: u32,
}

impl Disturbance {
    pub fn is_none(&self) -> bool {
        *self == Disturbance::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_limit_of_each_kind_counts() {
        let slow = Throttle {
            bytes: Some(Size(512_000)),
            iops: None,
        };
        let both = Throttle {
            bytes: Some(Size(1 << 20)),
            iops: Some(5),
        };
        assert_eq!(slow.and(both), both.and(slow));
        assert_eq!(
            DiskHarm::Slow(slow.and(both)).to_string(),
            "--slow 500KiB/s --iops 5"
        );
        assert_eq!(slow.and(Throttle::default()), slow);
        assert!(Throttle::default().is_none() && !slow.is_none());
    }

    #[test]
    fn an_offset_has_a_sign_and_a_unit() {
        for (seconds, text) in [(600, "+10m"), (-7200, "-2h"), (90, "+90s"), (-1, "-1s")] {
            assert_eq!(Offset(seconds).to_string(), text);
        }
    }
}
