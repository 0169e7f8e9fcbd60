//! How packets between two guests are slowed, lost and reordered, as netem does it (tc-netem(8)).
//!
//! Owns the values and how several add up; the commands are the guest's.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// What happens to packets on their way. Zero is nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Microseconds.
    pub latency: u64,
    /// How much the latency varies, in microseconds.
    pub jitter: u64,
    pub loss: Share,
    /// Packets that are sent at once, without the latency.
    pub reorder: Share,
    pub duplicate: Share,
    /// Bits per second.
    pub rate: Option<u64>,
}

/// A share of packets, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub u32);

const ALL: u64 = 1_000_000;

/// A guest that packets go to, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    pub to: Ipv4Addr,
    pub shape: Shape,
}

impl Share {
    /// The share of packets that one of two independent causes meets.
    fn or(self, other: Share) -> Share {
        let spared = (ALL - u64::from(self.0)) * (ALL - u64::from(other.0)) / ALL;
        // At most a million.
        Share(u32::try_from(ALL - spared).unwrap_or(u32::MAX))
    }
}

/// In percent.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

impl Shape {
    /// Both, one after the other.
    pub fn and(self, other: Shape) -> Shape {
        Shape {
            latency: self.latency.saturating_add(other.latency),
            jitter: self.jitter.saturating_add(other.jitter),
            loss: self.loss.or(other.loss),
            reorder: self.reorder.or(other.reorder),
            duplicate: self.duplicate.or(other.duplicate),
            rate: match (self.rate, other.rate) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
        }
    }
}

/// In the words of the command that injects it.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        for (name, time) in [("latency", self.latency), ("jitter", self.jitter)] {
            if time != 0 {
                words.push(format!("--{name} {}ms", time as f64 / 1000.0));
            }
        }
        let shares = [
            ("loss", self.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
        ];
        for (name, share) in shares {
            if share != Share(0) {
                words.push(format!("--{name} {share}"));
            }
        }
        if let Some(rate) = self.rate {
            words.push(format!("--rate {}kbit", rate as f64 / 1000.0));
        }
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shapes_add_up_as_if_they_were_passed_one_after_the_other() {
        let one = Shape {
            latency: 100_000,
            jitter: 20_000,
            loss: Share(500_000),
            rate: Some(1_000_000),
            ..Shape::default()
        };
        let other = Shape {
            latency: 1500,
            loss: Share(500_000),
            duplicate: Share(10_000),
            ..Shape::default()
        };
        let both = one.and(other);
        assert_eq!(both, other.and(one));
        assert_eq!(
            both.to_string(),
            "--latency 101.5ms --jitter 20ms --loss 75% --duplicate 1% --rate 1000kbit"
        );
        assert_eq!(one.and(Shape::default()), one);
        let all = Shape {
            loss: Share(1_000_000),
            ..one
        };
        assert_eq!(all.and(one).loss, Share(1_000_000));
    }
}
