//! Reads the machines that domains run on.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::super::fault::{Fault, Position};
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::Node;
use super::{Files, Found, addresses, unknown};
use crate::spec::{Connection, DomainSpec, HostSpec, Name};

/// More than the longest user name and the longest name in DNS.
const LONGEST_TARGET: usize = 32 + 1 + 253;

pub(super) fn hosts(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
    connection: Option<&Connection>,
) -> BTreeMap<Name, HostSpec> {
    let Some(node) = fields.get("hosts") else {
        return BTreeMap::new();
    };
    if let Some(Connection::Uri(uri)) = connection {
        let message = format!("`hosts` run labs, and the connection is `{uri}`");
        reader.fault(Fault::new(node.at, message).help("remove `connection`, or `hosts`"));
    }
    let entries = reader.entries(node, "hosts").unwrap_or_default();
    let mut hosts: BTreeMap<Name, HostSpec> = BTreeMap::new();
    for (key, node) in &entries {
        let name = reader.name(&key.name, key.at);
        let Some((name, host)) = name.zip(host(reader, node, files)) else {
            continue;
        };
        if let Some((other, _)) = hosts.iter().find(|(_, other)| **other == host) {
            let message = format!("`{name}` is the same machine as `{other}`");
            reader.fault(Fault::new(key.at, message).help("remove one of them"));
            continue;
        }
        hosts.insert(name, host);
    }
    hosts
}

/// The host of a domain: the only one, or the one that it names. Without one, it is placed later.
pub(super) fn of_domain(
    reader: &Reader,
    fields: &Fields,
    hosts: &BTreeMap<Name, HostSpec>,
) -> Option<Name> {
    let names: Vec<&str> = hosts.keys().map(Name::as_str).collect();
    let Some(node) = fields.get("host") else {
        let mut hosts = hosts.keys();
        return hosts.next().filter(|_| hosts.next().is_none()).cloned();
    };
    let text = reader.text(node, "host")?;
    let found = hosts.keys().find(|name| name.as_str() == text);
    if found.is_none() {
        unknown(reader, node, "host", text, &names);
    }
    found.cloned()
}

fn host(reader: &Reader, node: &Node, files: &Files) -> Option<HostSpec> {
    let fields = reader.object(node, node.at, &keys::HOST)?;
    let ssh = fields
        .get("ssh")
        .and_then(|node| reader.parsed(node, "ssh", target));
    let port = fields
        .get("port")
        .and_then(|node| reader.number(node, "port", 1, 65_535));
    let config = fields.get("config").and_then(|node| {
        let help = "this file is what `ssh -F` reads";
        files.expect(reader, node, "config", Found::File, help)
    });
    Some(HostSpec {
        ssh: ssh?,
        port: port.and_then(|port| u16::try_from(port).ok()),
        config,
        gateway: None,
    })
}

/// Gives each of several hosts its address in the network.
pub(super) fn assign(
    reader: &Reader,
    hosts: &mut BTreeMap<Name, HostSpec>,
    domains: &BTreeMap<Name, DomainSpec>,
    cidr: Ipv4Net,
    at: Position,
) {
    if hosts.len() < 2 {
        return;
    }
    let guests = domains.values().map(|domain| domain.address);
    let Some(gateways) = addresses::gateways(cidr, guests, hosts.keys()) else {
        let message = format!(
            "the network `{cidr}` is too small for {} hosts as well",
            hosts.len()
        );
        reader.fault(Fault::new(at, message).help("use a larger network, such as 10.77.0.0/16"));
        return;
    };
    for (host, gateway) in hosts.values_mut().zip(gateways) {
        host.gateway = Some(gateway);
    }
}

/// What `ssh` takes for a destination, and for no option.
fn target(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._-:%".contains(c);
    let parts: Vec<&str> = text.split('@').collect();
    if text.len() > LONGEST_TARGET
        || !text.chars().all(plain)
        || parts.len() > 2
        || parts
            .iter()
            .any(|part| part.is_empty() || part.starts_with('-'))
    {
        return Err(format!(
            "`{text}` is not a destination of `ssh`; write `USER@ADDRESS`, and the port as `port`"
        ));
    }
    Ok(text.to_owned())
}
