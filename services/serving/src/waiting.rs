//! Connections that have not shown yet what they are: each has a place until its handshake or its first request.
//!
//! Places are bounded, for each source address and for all. A connection that comes when there is none left takes the
//! place of the oldest one, so connections that stay silent never keep out those that speak.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The longest time from the start of a connection to its first byte.
pub const FIRST_BYTE: std::time::Duration = std::time::Duration::from_secs(5);

/// The most waiting connections of one source.
const SHARE: usize = 256;
/// The most waiting connections.
const MOST: usize = 1024;

/// The places of one listener.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: usize,
    /// By source and age.
    by_source: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    waiting: Waiting,
    source: IpAddr,
    number: u64,
    lost: CancellationToken,
}

impl Waiting {
    /// Takes a place for a new connection from `address`.
    pub fn enter(&self, address: IpAddr) -> Place {
        let source = source(address);
        let lost = CancellationToken::new();
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        places.taken += 1;
        let of_source = places.by_source.entry(source).or_default();
        of_source.insert(number, lost.clone());
        if of_source.len() > SHARE {
            places.end_oldest(source);
        } else if places.taken > MOST
            && let Some(greediest) = places.greediest()
        {
            places.end_oldest(greediest);
        }
        Place {
            waiting: self.clone(),
            source,
            number,
            lost,
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// The source with the most connections.
    fn greediest(&self) -> Option<IpAddr> {
        let sources = self.by_source.iter();
        let greediest = sources.max_by_key(|(_, connections)| connections.len());
        greediest.map(|(source, _)| *source)
    }

    fn end_oldest(&mut self, source: IpAddr) {
        let oldest = self.by_source.get(&source);
        let oldest = oldest.and_then(|connections| connections.keys().next().copied());
        if let Some(lost) = oldest.and_then(|number| self.remove(source, number)) {
            lost.cancel();
        }
    }

    fn remove(&mut self, source: IpAddr, number: u64) -> Option<CancellationToken> {
        let connections = self.by_source.get_mut(&source)?;
        let lost = connections.remove(&number)?;
        self.taken -= 1;
        if connections.is_empty() {
            self.by_source.remove(&source);
        }
        Some(lost)
    }
}

impl Place {
    /// Returns when a newer connection has taken the place.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.places().remove(self.source, self.number);
    }
}

/// Who has the address: with IPv6, the network of 64 bits that one customer gets.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_greediest_source_loses_its_place() {
        let waiting = Waiting::default();
        let from = |text: &str| waiting.enter(text.parse().unwrap());
        let first = from("2001:db8::1");
        let mut same: Vec<Place> = (1..SHARE).map(|_| from("2001:db8::2")).collect();
        assert!(!first.lost.is_cancelled());
        same.push(from("2001:db8::3"));
        assert!(first.lost.is_cancelled());
        assert!(same.iter().all(|place| !place.lost.is_cancelled()));

        let others: Vec<Place> = (0..MOST - SHARE)
            .map(|n| waiting.enter(std::net::Ipv4Addr::from_bits(n as u32).into()))
            .collect();
        assert!(!same[0].lost.is_cancelled());
        let last = from("192.0.2.1");
        assert!(same[0].lost.is_cancelled() && !last.lost.is_cancelled());
        assert!(others.iter().all(|place| !place.lost.is_cancelled()));
        drop((first, same, others, last));
        let places = waiting.places();
        assert_eq!((places.taken, places.by_source.len()), (0, 0));
    }
}
