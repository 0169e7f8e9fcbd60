//! What running domains have used of the host, by libvirt's statistics.

use std::collections::BTreeMap;

use pspd_model::spec::Size;
use virt_sys as sys;

use super::error::{Attempt as _, unless_gone};
use super::{Domain, Result, ffi};

/// What a domain has used since its start, and its memory now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Time of the host's processors, in nanoseconds.
    pub cpu: u64,
    /// What the guest has.
    pub memory: Size,
    /// What the domain's process takes of the host.
    pub resident: Size,
    /// Bytes that the guest read from its disks.
    pub read: u64,
    /// Bytes that the guest wrote to its disks.
    pub written: u64,
    /// Bytes that the guest received from its network.
    pub received: u64,
    /// Bytes that the guest sent to its network.
    pub sent: u64,
}

/// The usage of those domains that run or are paused, by name. All of them are of one connection.
pub fn usage(domains: &[Domain]) -> Result<BTreeMap<String, Usage>> {
    let kinds = sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | sys::VIR_DOMAIN_STATS_BALLOON
        | sys::VIR_DOMAIN_STATS_INTERFACE
        | sys::VIR_DOMAIN_STATS_BLOCK;
    if domains.is_empty() {
        return Ok(BTreeMap::new());
    }
    let raw: Vec<_> = domains.iter().map(Domain::raw).collect();
    let all = unless_gone(ffi::statistics(&raw, kinds));
    let all = all.attempt(|| "read the statistics of the domains".to_owned())?;
    let all = all.unwrap_or_default().into_iter();
    let used = all.filter_map(|(name, numbers)| Some((name, of(&numbers)?)));
    Ok(used.collect())
}

/// `None` where the domain has no process.
fn of(numbers: &[(String, u64)]) -> Option<Usage> {
    let one = |wanted: &str| {
        let found = numbers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| *value)
    };
    // Such as `block.1.rd.bytes`, over all numbers.
    let sum = |first: &str, last: &str| {
        let matching = numbers.iter().filter(|(name, _)| {
            let number = name
                .strip_prefix(first)
                .and_then(|rest| rest.strip_suffix(last));
            number.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()))
        });
        matching.map(|(_, value)| value).sum()
    };
    let kibibytes = |name| Size(one(name).unwrap_or(0) << 10);
    Some(Usage {
        cpu: one("cpu.time")?,
        memory: kibibytes("balloon.current"),
        resident: kibibytes("balloon.rss"),
        read: sum("block.", ".rd.bytes"),
        written: sum("block.", ".wr.bytes"),
        received: sum("net.", ".rx.bytes"),
        sent: sum("net.", ".tx.bytes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_all_disks_and_networks_are_added() {
        let numbers = [
            ("cpu.time", 7),
            ("cpu.user", 1),
            ("balloon.current", 512),
            ("balloon.rss", 300),
            ("net.count", 1),
            ("net.0.rx.bytes", 10),
            ("net.0.tx.bytes", 20),
            ("block.count", 2),
            ("block.0.rd.bytes", 1),
            ("block.12.rd.bytes", 2),
            ("block.0.wr.bytes", 4),
            ("block.0.threshold.rd.bytes", 100),
        ];
        let numbers = numbers.map(|(name, value)| (name.to_owned(), value));
        let expected = Usage {
            cpu: 7,
            memory: Size(512 << 10),
            resident: Size(300 << 10),
            read: 3,
            written: 4,
            received: 10,
            sent: 20,
        };
        assert_eq!(of(&numbers), Some(expected));
        assert_eq!(of(&[]), None);
    }
}
