//! Which host a domain is on that names none, where a deployment has several.
//!
//! A domain stays on its host. A new one goes where the fewest of its replicas are, and of those hosts to the one with the most
//! free memory; the largest domains choose first. Nothing moves because something else changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hint::Hinted;
use crate::spec::{DomainSpec, Name, Size, Spec};

/// What a host has room for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Memory, in bytes, that nothing uses.
    pub free: Size,
    /// The deployment's domains that use memory there already.
    pub running: BTreeSet<Name>,
}

/// The choice for one domain, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub domain: Name,
    pub host: Name,
    /// Memory that was free there.
    pub free: Size,
    /// The replicas of the domain that are there.
    pub replicas: usize,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice {
            domain, host, free, ..
        } = self;
        let others = match self.replicas {
            0 => String::new(),
            1 => ", beside one that does the same".to_owned(),
            count => format!(", beside {count} that do the same"),
        };
        write!(
            f,
            "`{domain}` is placed on `{host}`, with {free} of free memory{others}"
        )
    }
}

/// Whether a domain has no host: neither its own, nor one where it was.
pub fn is_due(spec: &Spec, before: &BTreeMap<Name, Name>) -> bool {
    let mut domains = spec.domains.values();
    spec.is_spread() && domains.any(|domain| known(spec, before, domain).is_none())
}

/// Gives every domain a host. `before` has the hosts of domains that were placed; each host has its room.
///
/// Fails where no host has the memory for a domain.
pub fn schedule(
    mut spec: Spec,
    before: &BTreeMap<Name, Name>,
    rooms: &BTreeMap<Name, Room>,
) -> Result<(Spec, Vec<Choice>), Hinted> {
    let mut free: BTreeMap<Name, Size> = rooms
        .iter()
        .map(|(host, room)| (host.clone(), room.free))
        .collect();
    let mut placed: BTreeMap<Name, Name> = BTreeMap::new();
    let mut left = Vec::new();
    for domain in spec.domains.values() {
        let Some(host) = known(&spec, before, domain) else {
            left.push(domain);
            continue;
        };
        let runs = rooms
            .get(host)
            .is_some_and(|room| room.running.contains(&domain.name));
        if let Some(free) = free.get_mut(host).filter(|_| !runs) {
            free.0 = free.0.saturating_sub(domain.memory.current.0);
        }
        placed.insert(domain.name.clone(), host.clone());
    }
    left.sort_by_key(|domain| (Reverse(domain.memory.current), &domain.name));
    let mut choices = Vec::new();
    for domain in left {
        let wanted = domain.memory.current;
        let replicas = |host: &Name| {
            let there = placed.iter().filter(|(_, on)| *on == host);
            there
                .filter(|(name, _)| are_replicas(domain, &spec.domains[*name]))
                .count()
        };
        let fitting = free.iter().filter(|(_, free)| **free >= wanted);
        let best = fitting.min_by_key(|(host, free)| (replicas(host), Reverse(**free)));
        let Some((host, _)) = best else {
            return Err(no_room(domain, &free));
        };
        let host = host.clone();
        choices.push(Choice {
            domain: domain.name.clone(),
            replicas: replicas(&host),
            free: free[&host],
            host: host.clone(),
        });
        if let Some(free) = free.get_mut(&host) {
            free.0 -= wanted.0;
        }
        placed.insert(domain.name.clone(), host);
    }
    for domain in spec.domains.values_mut() {
        domain.host = placed.remove(&domain.name);
    }
    Ok((spec, choices))
}

/// The host that the topology names, or where the domain was.
fn known<'a>(
    spec: &'a Spec,
    before: &'a BTreeMap<Name, Name>,
    domain: &'a DomainSpec,
) -> Option<&'a Name> {
    let was = before.get(&domain.name);
    let was = was.filter(|host| spec.hosts.contains_key(*host));
    domain.host.as_ref().or(was)
}

/// Whether the loss of one matters less where the other lives on: members of one cluster, or the same service.
fn are_replicas(one: &DomainSpec, other: &DomainSpec) -> bool {
    let program = |domain: &DomainSpec| {
        domain
            .service
            .as_ref()
            .map(|service| service.program.clone())
    };
    one.peers.contains(&other.name) || (one.service.is_some() && program(one) == program(other))
}

fn no_room(domain: &DomainSpec, free: &BTreeMap<Name, Size>) -> Hinted {
    let free = free
        .iter()
        .map(|(host, free)| format!("{free} on `{host}`"));
    let free: Vec<String> = free.collect();
    Hinted::new(
        format!(
            "no host has {} of memory for `{}`; free are {}",
            domain.memory.current,
            domain.name,
            free.join(", ")
        ),
        "Reduce `memory`, add a host, or set the domain's `host` to use one anyway",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::topology::{self, Found};

    /// What a domain is generated of: MiB of memory, a host by number if the topology names one, and its program.
    type Drawn = (u64, Option<usize>, u8);

    const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn spec(domains: &[Drawn]) -> Spec {
        let mut text =
            "name: demo\nhosts: {alpha: {ssh: a}, beta: {ssh: b}, gamma: {ssh: c}}\ndomains:\n"
                .to_owned();
        for (index, (memory, host, program)) in domains.iter().enumerate() {
            let host = host.map_or(String::new(), |host| format!(", host: {}", HOSTS[host]));
            text += &format!(
                "  d{index}: {{image: debian, memory: {memory} MiB, service: {{binary: p{program}, port: 1, health: tcp}}{host}}}\n"
            );
        }
        topology::parse(&text, Path::new("/"), &|_| Found::File).unwrap()
    }

    fn rooms(free: [u64; 3]) -> BTreeMap<Name, Room> {
        let room = |(host, free)| {
            let free = Size::mib(free);
            let room = Room {
                free,
                ..Room::default()
            };
            (name(host), room)
        };
        HOSTS.into_iter().zip(free).map(room).collect()
    }

    fn hosts(spec: &Spec) -> BTreeMap<Name, Name> {
        let domains = spec.domains.values();
        domains
            .map(|domain| (domain.name.clone(), domain.host.clone().unwrap()))
            .collect()
    }

    fn placed(domains: &[Drawn], free: [u64; 3]) -> Vec<String> {
        let (spec, _) = schedule(spec(domains), &BTreeMap::new(), &rooms(free)).unwrap();
        hosts(&spec).values().map(Name::to_string).collect()
    }

    #[test]
    fn replicas_are_spread_and_others_go_where_memory_is() {
        let replicas = [(256, None, 0); 4];
        assert_eq!(
            placed(&replicas, [1024, 900, 800]),
            ["alpha", "beta", "gamma", "alpha"]
        );
        let others = [(512, None, 0), (512, None, 1)];
        assert_eq!(placed(&others, [600, 2048, 700]), ["beta", "beta"]);
        // The largest chooses first, whatever its name.
        let sizes = [(256, None, 0), (1024, None, 1)];
        assert_eq!(placed(&sizes, [256, 1100, 300]), ["gamma", "beta"]);
    }

    #[test]
    fn without_room_it_is_said_how_much_is_missing() {
        let error = schedule(
            spec(&[(512, None, 0)]),
            &BTreeMap::new(),
            &rooms([100, 200, 300]),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "no host has 512 MiB of memory for `d0`; free are 100 MiB on `alpha`, 200 MiB on `beta`, 300 MiB on `gamma`"
        );
    }

    #[test]
    fn what_runs_does_not_need_its_memory_twice() {
        let before = BTreeMap::from([(name("d0"), name("alpha"))]);
        let mut rooms = rooms([300, 100, 100]);
        let two = spec(&[(512, None, 0), (256, None, 1)]);
        assert!(schedule(two.clone(), &before, &rooms).is_err());
        rooms
            .get_mut(&name("alpha"))
            .unwrap()
            .running
            .insert(name("d0"));
        let (spec, choices) = schedule(two, &before, &rooms).unwrap();
        assert!(hosts(&spec).values().all(|host| host.as_str() == "alpha"));
        assert_eq!(
            choices[0].to_string(),
            "`d1` is placed on `alpha`, with 300 MiB of free memory"
        );
    }

    prop_compose! {
        fn drawn()(memory in 128u64..1024, host in proptest::option::weighted(0.3, 0..3usize), program in 0..3u8) -> Drawn {
            (memory, host, program)
        }
    }

    proptest! {
        #[test]
        fn domains_stay_where_they_are_and_fit_where_they_go(
            first in proptest::collection::vec(drawn(), 1..6),
            more in proptest::collection::vec(drawn(), 0..4),
            free in proptest::array::uniform3(0u64..4096),
        ) {
            let rooms = rooms(free);
            let Ok((one, choices)) = schedule(spec(&first), &BTreeMap::new(), &rooms) else {
                return Ok(());
            };
            let again = schedule(spec(&first), &BTreeMap::new(), &rooms).unwrap();
            prop_assert_eq!(&again, &(one.clone(), choices.clone()));
            let one = hosts(&one);
            for (index, (_, host, _)) in first.iter().enumerate() {
                if let Some(host) = host {
                    prop_assert_eq!(one[&name(&format!("d{index}"))].as_str(), HOSTS[*host]);
                }
            }
            // What was chosen fits beside all else that the host has.
            for choice in &choices {
                let there = one.iter().filter(|(_, host)| **host == choice.host);
                let used: u64 = there.map(|(domain, _)| {
                    let index: usize = domain.as_str()[1..].parse().unwrap();
                    Size::mib(first[index].0).0
                }).sum();
                prop_assert!(used <= rooms[&choice.host].free.0);
            }
            // More domains, and no memory at all: what was placed stays.
            let all: Vec<Drawn> = first.iter().chain(&more).copied().collect();
            let empty = self::rooms([0; 3]);
            if let Ok((two, _)) = schedule(spec(&all), &one, &rooms) {
                let two = hosts(&two);
                prop_assert!(one.iter().all(|(domain, host)| two[domain] == *host));
            }
            let (same, choices) = schedule(spec(&first), &one, &empty).unwrap();
            prop_assert_eq!(hosts(&same), one);
            prop_assert!(choices.is_empty());
        }
    }
}
