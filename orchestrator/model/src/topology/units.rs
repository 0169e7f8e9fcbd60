//! Parses values with units.

use std::time::Duration;

use crate::spec::Size;

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// The unit in which sizes are kept. Disks have whole sectors, and an exact size is exported and imported unchanged.
const GRAIN: u64 = 1 << 10;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a size such as `512 MiB` or `1.5GiB`, rounded up to whole KiB; the unit is required.
pub fn size(text: &str) -> Result<Size, String> {
    let (number, unit) = split(text);
    if unit.is_empty() && !number.is_empty() {
        return Err(format!(
            "`{text}` has no unit; write `{text} MiB` or `{text} GiB`"
        ));
    }
    let scale = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, scale)| *scale);
    let value: Option<f64> = number
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite() && *value > 0.0);
    match (value, scale) {
        (Some(value), Some(scale)) if value * scale as f64 <= (1u64 << 50) as f64 => {
            let bytes = (value * scale as f64).ceil() as u64;
            Ok(Size(bytes.next_multiple_of(GRAIN)))
        }
        (Some(_), Some(_)) => Err(format!("`{text}` is more than 1 PiB")),
        _ => Err(format!(
            "`{text}` is not a valid size; write it like `512 MiB` or `4 GiB`"
        )),
    }
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        size(text)
    }
}

/// Parses a duration such as `30s` or `2m`, of at most 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "s" => Some(1),
        "m" | "min" => Some(60),
        _ => None,
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    let Some((number, scale)) = number.zip(scale) else {
        return Err(format!(
            "`{text}` is not a valid duration; write it like `30s` or `2m`"
        ));
    };
    let duration = Duration::from_secs(number.saturating_mul(scale));
    if duration > LONGEST {
        return Err(format!("`{text}` is more than 24 hours"));
    }
    Ok(duration)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_a_positive_number_and_a_unit() {
        for (text, bytes) in [
            ("512 MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("4 gib", 4 << 30),
            ("10 MB", 9766 << 10),
            ("100001 KB", 97_658 << 10),
            ("0.001 KiB", 1 << 10),
        ] {
            assert_eq!(size(text), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "512",
            "",
            "MiB",
            "-1 MiB",
            "0 MiB",
            "1 XiB",
            "1e3 MiB",
            "9999999 TiB",
            "NaN MiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_a_whole_number_of_seconds_or_minutes() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1440m"), duration("86400s"));
        for text in [
            "30",
            "0s",
            "s",
            "99999999s",
            "1.5s",
            "2000m",
            "1441m",
            "86401s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
