//! Points in time as people write them.

use jiff::civil::{DateTime, Time};
use jiff::{Span, Timestamp, Zoned};

const HINT: &str = "write a time like `05:00`, `2026-11-28 05:00` or `2026-11-28T05:00:00Z`, or how long ago it was, like `10m` or `2h`";

/// A point in time: RFC 3339, a local date and time, a local time of today, or a duration before `now`.
pub(super) fn moment(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let local = |time: DateTime| time.to_zoned(now.time_zone().clone());
    let read = if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    } else if let Ok(time) = text.parse::<DateTime>() {
        local(time)
    } else if text.contains(':') {
        // Before durations: `05:00:30` is one, too.
        let time = text.parse::<Time>().map_err(|_| HINT)?;
        local(now.date().to_datetime(time))
    } else if let Ok(span) = text.parse::<Span>() {
        now.checked_sub(span.abs())
    } else {
        return Err(HINT.into());
    };
    read.map(|time| time.timestamp())
        .map_err(|error| format!("not a time of the calendar: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_zone_of_now() {
        let now: Zoned = "2026-11-28T12:00:00+02:00[+02:00]".parse().unwrap();
        for (text, expected) in [
            ("2026-11-28T05:00:00Z", "2026-11-28T05:00:00Z"),
            ("2026-11-28T05:00:00.5+01:00", "2026-11-28T04:00:00.5Z"),
            ("2026-11-28 05:00", "2026-11-28T03:00:00Z"),
            ("2026-11-28T05:00:01", "2026-11-28T03:00:01Z"),
            ("2026-11-28", "2026-11-27T22:00:00Z"),
            ("05:00", "2026-11-28T03:00:00Z"),
            ("05:00:30", "2026-11-28T03:00:30Z"),
            ("10m", "2026-11-28T09:50:00Z"),
            ("1h30m", "2026-11-28T08:30:00Z"),
            ("2d", "2026-11-26T10:00:00Z"),
        ] {
            let read = moment(text, &now).map(|time| time.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "soon",
            "25:00",
            "2026-13-01",
            "10",
            "10 potatoes",
            "20000y",
        ] {
            assert!(moment(text, &now).is_err(), "{text}");
        }
    }
}
