//! Reads all domains and checks the rules between them: dependencies, published ports, addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::fault::{Fault, Position};
use super::super::read::{Fields, Reader};
use super::domain::{self, Draft, Known};
use super::image::Images;
use super::{Files, addresses, graph, names};
use crate::spec::{DomainSpec, HealthCheck, HostSpec, Name, NetworkSpec, SSH_PORT};

/// The maximum number of domains.
const MOST_DOMAINS: usize = 1000;
/// The maximum number of all services' `files`. An archive has 4,096 files, with disks and programs.
const MOST_FILES: usize = 2000;
/// The maximum number of members of a cycle that are named.
const MOST_NAMED: usize = 8;

/// Returns the valid domains; the others are reported as faults.
pub(super) fn domains(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
    deployment: &Name,
    network: Option<&NetworkSpec>,
    images: &Images,
    hosts: &BTreeMap<Name, HostSpec>,
) -> BTreeMap<Name, DomainSpec> {
    let Some(node) = fields.get("domains") else {
        return BTreeMap::new();
    };
    let entries = reader.entries(node, "domains").unwrap_or_default();
    if entries.is_empty() {
        reader.fault(Fault::new(node.at, "a topology needs at least one domain"));
    }
    if entries.len() > MOST_DOMAINS {
        reader.fault(Fault::new(
            node.at,
            format!(
                "a topology has at most {MOST_DOMAINS} domains, not {}",
                entries.len()
            ),
        ));
        return BTreeMap::new();
    }
    let mut names: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let known = Known {
        domains: names,
        hosts,
    };
    let mut drafts = BTreeMap::new();
    for (key, node) in &entries {
        let name = reader.name(&key.name, key.at);
        names::check(reader, &key.name, key.at);
        let draft = domain::draft(reader, key, node, files, images, &known);
        if draft.as_ref().is_some_and(|draft| draft.has_service) {
            names::check_of_service(reader, &key.name, key.at);
        }
        if let (Some(name), Some(draft)) = (name, draft) {
            drafts.entry(name).or_insert(draft);
        }
    }
    check(reader, &drafts);
    let beside = drafts.values().filter_map(|draft| {
        let service = draft.spec.as_ref()?.service.as_ref()?;
        Some(service.files.len())
    });
    let beside: usize = beside.sum();
    if beside > MOST_FILES {
        let message = format!("the `files` of all services are at most {MOST_FILES}, not {beside}");
        reader.fault(Fault::new(node.at, message).help("put files into a directory"));
    }
    let Some(network) = network else {
        return BTreeMap::new();
    };
    place(reader, drafts, deployment, network, node.at)
}

/// Checks the rules between domains.
fn check(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    reject_waits_without_service(reader, drafts);
    reject_cycles(reader, drafts);
    reject_peers_without_service(reader, drafts);
    reject_shared_ports(reader, drafts);
    reject_fronts_of_other_protocols(reader, drafts);
    reject_unauthenticated_publish(reader, drafts);
}

fn reject_waits_without_service(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    for (name, draft) in drafts {
        for (other, at) in &draft.depends_on {
            if drafts.get(other).is_some_and(|other| !other.has_service) {
                let message = format!("`{name}` cannot depend on `{other}`, which has no service");
                reader.fault(
                    Fault::new(*at, message)
                        .help("add a `service` to it, or remove the dependency"),
                );
            }
        }
    }
}

fn reject_cycles(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    let edges = drafts.iter().map(|(name, draft)| {
        let to: BTreeSet<Name> = draft
            .depends_on
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        (name.clone(), to)
    });
    for cycle in graph::cycles(&edges.collect()) {
        let first = drafts[&cycle[0]].depends_on.iter();
        let Some((_, at)) = first.clone().find(|(name, _)| *name == cycle[1]) else {
            continue;
        };
        let message = format!("circular dependency: {}", path(&cycle));
        reader.fault(Fault::new(*at, message).help("remove one of these dependencies"));
    }
}

/// Formats a cycle; of a long one, its middle is counted.
fn path(cycle: &[Name]) -> String {
    let names: Vec<&str> = cycle.iter().map(Name::as_str).collect();
    let (Some(last), true) = (names.last(), names.len() > MOST_NAMED + 1) else {
        return names.join(" -> ");
    };
    let more = names.len() - 1 - MOST_NAMED;
    let named = names[..MOST_NAMED].join(" -> ");
    format!("{named} -> ({more} more) -> {last}")
}

fn reject_peers_without_service(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    for (name, draft) in drafts {
        for (peer, at) in &draft.peers {
            let has_service = |name| drafts.get(name).is_none_or(|draft| draft.has_service);
            let (message, help) = if peer == name {
                let message = format!("`{name}` cannot be a peer of itself");
                (message, "remove it from its `peers`")
            } else if let Some(without) = [name, peer].into_iter().find(|it| !has_service(it)) {
                let message =
                    format!("`{name}` and `{peer}` cannot be peers: `{without}` has no service");
                (message, "add a `service` to it, or remove the peer")
            } else {
                continue;
            };
            reader.fault(Fault::new(*at, message).help(help));
        }
    }
}

fn reject_shared_ports(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    // By port: who publishes it on which addresses, and who published it first.
    let mut taken: BTreeMap<u16, (BTreeMap<IpAddr, &Name>, &Name)> = BTreeMap::new();
    for (name, draft) in drafts {
        for (publish, at) in &draft.publish {
            let host = publish.host;
            let (by_address, first) = taken
                .entry(host.port())
                .or_insert_with(|| (BTreeMap::new(), name));
            let other = if host.ip().is_unspecified() && !by_address.is_empty() {
                Some(*first)
            } else {
                let conflicts = [
                    host.ip(),
                    Ipv4Addr::UNSPECIFIED.into(),
                    Ipv6Addr::UNSPECIFIED.into(),
                ];
                conflicts.iter().find_map(|ip| by_address.get(ip).copied())
            };
            if let Some(other) = other {
                let fault = Fault::new(*at, format!("`{host}` is already published by `{other}`"));
                reader.fault(fault.help("use another port of the host"));
            }
            by_address.entry(host.ip()).or_insert(name);
        }
    }
}

/// A front speaks HTTP without TLS to its guest.
fn reject_fronts_of_other_protocols(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    for (name, draft) in drafts {
        let service = draft.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let mutual_tls = service.filter(|service| service.health != HealthCheck::Tcp);
        for (publish, at) in &draft.publish {
            let port = publish.guest_port;
            let protocol = match mutual_tls {
                _ if publish.http.is_none() => continue,
                _ if port == SSH_PORT => "SSH",
                Some(service) if service.port == port => "gRPC with mutual TLS",
                _ => continue,
            };
            let message = format!("port {port} of `{name}` is not HTTP: it speaks {protocol}");
            reader.fault(Fault::new(*at, message).help(format!(
                "publish it as it is: `\"{}:{port}\"`",
                publish.host
            )));
        }
    }
}

/// A port that other machines can reach must authenticate its clients: SSH, mutual TLS, or a service with a secret.
fn reject_unauthenticated_publish(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    for (name, draft) in drafts {
        let Some(spec) = &draft.spec else { continue };
        let secrets = spec
            .service
            .as_ref()
            .map_or(0, |service| service.secrets.len());
        let authenticates = |port: u16| match &spec.service {
            Some(service) => {
                let mutual_tls = service.port == port && service.health != HealthCheck::Tcp;
                port == SSH_PORT || mutual_tls || !service.secrets.is_empty()
            }
            None => port == SSH_PORT,
        };
        for (publish, at) in &draft.publish {
            // A front has no client certificate to show, and passes none on.
            let is_open = publish.http.is_some() && secrets == 0;
            let authenticates = authenticates(publish.guest_port) && !is_open;
            if publish.host.ip().is_loopback() || authenticates {
                continue;
            }
            let message = format!(
                "`{}` is reachable from other machines, but `{name}` does not authenticate its clients",
                publish.host
            );
            reader.fault(Fault::new(*at, message).help(
                "add `secrets` to its service, such as `{WEB_TOKEN: generate}`, or publish on 127.0.0.1",
            ));
        }
    }
}

/// The peers of each domain that has any: each of two peers has the other.
fn peers(drafts: &BTreeMap<Name, Draft>) -> BTreeMap<Name, BTreeSet<Name>> {
    let mut peers: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for (name, draft) in drafts {
        for (peer, _) in &draft.peers {
            for (one, other) in [(name, peer), (peer, name)] {
                peers.entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    peers
}

/// Assigns a name, peers, an address and a MAC to each valid draft.
fn place(
    reader: &Reader,
    drafts: BTreeMap<Name, Draft>,
    deployment: &Name,
    network: &NetworkSpec,
    at: Position,
) -> BTreeMap<Name, DomainSpec> {
    let mut fixed: BTreeMap<Name, Ipv4Addr> = BTreeMap::new();
    let mut owners: BTreeMap<Ipv4Addr, &Name> = BTreeMap::new();
    for (name, draft) in &drafts {
        let Some((address, at)) = draft.address else {
            continue;
        };
        if let Err(message) = addresses::check(network.cidr, address) {
            reader.fault(Fault::new(at, message));
        } else if let Some(other) = owners.get(&address) {
            reader.fault(Fault::new(
                at,
                format!("`{address}` is already the address of `{other}`"),
            ));
        }
        owners.entry(address).or_insert(name);
        fixed.insert(name.clone(), address);
    }
    let Some(assigned) = addresses::assign(network.cidr, &fixed, drafts.keys()) else {
        reader.fault(
            Fault::new(
                at,
                format!(
                    "the network `{}` is too small for {} domains",
                    network.cidr,
                    drafts.len()
                ),
            )
            .help("use a larger network, such as 10.77.0.0/16"),
        );
        return BTreeMap::new();
    };
    let macs = addresses::macs(deployment, drafts.keys());
    let mut peers = peers(&drafts);
    let placed = drafts.into_iter().filter_map(|(name, draft)| {
        let spec = DomainSpec {
            peers: peers.remove(&name).unwrap_or_default(),
            address: assigned[&name],
            mac: macs[&name],
            name: name.clone(),
            ..draft.spec?
        };
        Some((name, spec))
    });
    placed.collect()
}
