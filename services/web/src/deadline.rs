//! A caller's deadline, from gRPC's `grpc-timeout` header; it limits every backend call made for the caller.
//!
//! Source of the format: the gRPC over HTTP/2 protocol, `Timeout`.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// When a caller stops waiting; `None` if it sets no deadline.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Reads a request's deadline; a malformed one counts as none.
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let header = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok());
        Self(header.and_then(timeout).map(|left| Instant::now() + left))
    }

    /// The earlier of this deadline and `limit` from now.
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self(Some(self.end(limit)))
    }

    /// The moment `limit` from now, or the deadline if that is earlier.
    pub(crate) fn end(self, limit: Duration) -> Instant {
        let limit = Instant::now() + limit;
        self.0.map_or(limit, |deadline| deadline.min(limit))
    }

    /// The caller's remaining time; `None` if it sets no deadline.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0
            .map(|end| end.saturating_duration_since(Instant::now()))
    }
}

fn timeout(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit_and_at_most_eight_digits() {
        let table = [
            ("2S", Some(Duration::from_secs(2))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789n", None),
            ("S", None),
            ("", None),
            ("+1S", None),
            ("5", None),
            ("1é", None),
        ];
        for (header, expected) in table {
            assert_eq!(timeout(header), expected, "{header}");
        }
    }
}
