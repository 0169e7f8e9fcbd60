//! How much memory this machine has left.

use std::fs;

use anyhow::{Context as _, Result};
use pspd_model::spec::Size;

/// Memory that programs can have without others losing theirs: `MemAvailable` of proc_meminfo(5).
pub(crate) fn free_memory() -> Result<Size> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    available(&text).context("/proc/meminfo has no MemAvailable")
}

fn available(text: &str) -> Option<Size> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(Size(kib << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_in_kib() {
        let text = "MemTotal:       24681968 kB\nMemAvailable:   17441060 kB\nCached: 1 kB\n";
        assert_eq!(available(text), Some(Size(17_441_060 << 10)));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
