//! Addresses and MACs. By default, they are derived from names, so that adding a domain does not change the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

use crate::spec::{Mac, Name};

/// Addresses below this index are reserved for the gateway and for addresses chosen by users.
const FIRST: u32 = 10;

/// Returns the first usable address.
pub(super) fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    nth(cidr, 1)
}

fn nth(cidr: Ipv4Net, index: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + index)
}

/// Checks that an address can be a guest's; the error is the reason.
pub(super) fn check(cidr: Ipv4Net, address: Ipv4Addr) -> Result<(), String> {
    if !cidr.contains(&address) {
        return Err(format!("`{address}` is outside the network `{cidr}`"));
    }
    let reserved = [
        (cidr.network(), "the network's own address"),
        (cidr.broadcast(), "the network's broadcast address"),
        (gateway(cidr), "the gateway's address"),
    ];
    match reserved.iter().find(|(other, _)| *other == address) {
        Some((_, what)) => Err(format!("`{address}` is {what}")),
        None => Ok(()),
    }
}

/// Assigns an address to each name: the index is derived from the name's digest, and taken addresses are skipped.
/// Returns `None` if the network is too small.
pub(super) fn assign<'a>(
    cidr: Ipv4Net,
    fixed: &BTreeMap<Name, Ipv4Addr>,
    names: impl Iterator<Item = &'a Name>,
) -> Option<BTreeMap<Name, Ipv4Addr>> {
    let mut assigned = fixed.clone();
    let mut taken: BTreeSet<Ipv4Addr> = fixed.values().copied().collect();
    for name in names {
        if !assigned.contains_key(name) {
            assigned.insert(name.clone(), take(cidr, name.as_str(), &mut taken)?);
        }
    }
    Some(assigned)
}

/// Gives each of several hosts an address of its own in the network, which is then the gateway of its guests. They change
/// rarely, too. Returns `None` if the network is too small.
pub(super) fn gateways<'a>(
    cidr: Ipv4Net,
    guests: impl Iterator<Item = Ipv4Addr>,
    hosts: impl Iterator<Item = &'a Name>,
) -> Option<Vec<Ipv4Addr>> {
    let mut taken = guests.collect();
    let gateways = hosts.map(|host| take(cidr, &format!("host/{host}"), &mut taken));
    gateways.collect()
}

/// Takes a free address for what has this name, if there is one.
fn take(cidr: Ipv4Net, name: &str, taken: &mut BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let last = u32::from(cidr.broadcast()) - u32::from(cidr.network()) - 1;
    let first = if last > FIRST + 8 { FIRST } else { 2 };
    let places = last - first + 1;
    let start = number(name) % places;
    let mut all = (0..places).map(|step| nth(cidr, first + (start + step) % places));
    all.find(|address| taken.insert(*address))
}

fn number(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Assigns a MAC with QEMU's prefix to each domain: its rest is derived from both names, and taken ones are skipped. There
/// are 2^24 of them.
pub(super) fn macs<'a>(
    deployment: &Name,
    domains: impl Iterator<Item = &'a Name>,
) -> BTreeMap<Name, Mac> {
    let mut taken = BTreeSet::new();
    let macs = domains.map(|domain| {
        let digest = Sha256::digest(format!("{deployment}/{domain}").as_bytes());
        let mut rest = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
        while !taken.insert(rest) {
            rest = (rest + 1) & 0x00ff_ffff;
        }
        let [_, a, b, c] = rest.to_be_bytes();
        (domain.clone(), Mac([0x52, 0x54, 0x00, a, b, c]))
    });
    macs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_are_unique_usable_and_stable(prefix in 24u8..=29, count in 0usize..200) {
            let cidr: Ipv4Net = format!("10.1.2.0/{prefix}").parse().unwrap();
            let names: Vec<Name> = (0..count).map(|index| Name::new(&format!("n{index}")).unwrap()).collect();
            let Some(all) = assign(cidr, &BTreeMap::new(), names.iter()) else {
                prop_assert!(count > (1usize << (32 - prefix)).saturating_sub(14));
                return Ok(());
            };
            let unique: std::collections::BTreeSet<_> = all.values().collect();
            prop_assert_eq!(unique.len(), count);
            prop_assert!(all.values().all(|address| check(cidr, *address).is_ok()));
        }
    }

    #[test]
    fn no_two_domains_have_one_mac() {
        let deployment = Name::new("demo").unwrap();
        // Of so many digests, some begin with the same three bytes.
        let names: Vec<Name> = (0..20_000)
            .map(|index| Name::new(&format!("n{index}")).unwrap())
            .collect();
        let all = macs(&deployment, names.iter());
        let alone = |name: &Name| macs(&deployment, [name].into_iter())[name];
        let moved = names.iter().filter(|name| all[*name] != alone(name));
        assert!((1..200).contains(&moved.count()));
        let unique: BTreeSet<[u8; 6]> = all.values().map(|mac| mac.0).collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn adding_a_domain_does_not_change_other_addresses() {
        let cidr = "10.1.0.0/16".parse().unwrap();
        let names: Vec<Name> = ["web", "store", "ai"]
            .iter()
            .map(|name| Name::new(name).unwrap())
            .collect();
        let few = assign(cidr, &BTreeMap::new(), names[..2].iter()).unwrap();
        let more = assign(cidr, &BTreeMap::new(), names.iter()).unwrap();
        assert!(few.iter().all(|(name, address)| more[name] == *address));
    }
}
