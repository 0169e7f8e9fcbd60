//! Addresses and MACs: as asked for, else derived from names, so that a domain that is added moves no other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

use crate::spec::{Mac, Name};

/// Addresses from the first are left to the gateway and to what users place by hand.
const FIRST: u32 = 10;

/// The first usable address.
pub fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    nth(cidr, 1)
}

fn nth(cidr: Ipv4Net, index: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + index)
}

/// Why an address cannot be a guest's.
pub fn refuse(cidr: Ipv4Net, address: Ipv4Addr) -> Result<(), String> {
    if !cidr.contains(&address) {
        return Err(format!("`{address}` is outside of the network `{cidr}`"));
    }
    let taken = [
        (cidr.network(), "the network's own address"),
        (cidr.broadcast(), "the network's broadcast address"),
        (gateway(cidr), "the gateway's address"),
    ];
    match taken.iter().find(|(other, _)| *other == address) {
        Some((_, what)) => Err(format!("`{address}` is {what}")),
        None => Ok(()),
    }
}

/// Gives each name an address: a place that its digest picks, or the next free one. `None`: the network is too small.
pub fn assign<'a>(
    cidr: Ipv4Net,
    fixed: &BTreeMap<Name, Ipv4Addr>,
    names: impl Iterator<Item = &'a Name>,
) -> Option<BTreeMap<Name, Ipv4Addr>> {
    let last = u32::from(cidr.broadcast()) - u32::from(cidr.network()) - 1;
    let first = if last > FIRST + 8 { FIRST } else { 2 };
    let places = last - first + 1;
    let mut assigned = fixed.clone();
    for name in names {
        if assigned.contains_key(name) {
            continue;
        }
        let start = number(name) % places;
        let free = (0..places)
            .map(|step| nth(cidr, first + (start + step) % places))
            .find(|address| !assigned.values().any(|other| other == address))?;
        assigned.insert(name.clone(), free);
    }
    Some(assigned)
}

fn number(name: &Name) -> u32 {
    let digest = Sha256::digest(name.as_str().as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// A MAC of QEMU's own prefix, the same whenever the two names are.
pub fn mac(deployment: &Name, domain: &Name) -> Mac {
    let digest = Sha256::digest(format!("{deployment}/{domain}").as_bytes());
    Mac([0x52, 0x54, 0x00, digest[0], digest[1], digest[2]])
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
            prop_assert!(all.values().all(|address| refuse(cidr, *address).is_ok()));
        }
    }

    #[test]
    fn a_domain_that_is_added_moves_no_other() {
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
