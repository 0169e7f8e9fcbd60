//! What a deployment that comes from elsewhere gets of its own on this host: a network and ports that are free.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::Mapping;

/// What is in use on this host.
pub struct Taken {
    /// Networks that the deployment cannot have.
    pub networks: Vec<Ipv4Net>,
    /// Whether something listens there.
    pub listening: fn(SocketAddr) -> bool,
}

/// The mappings in `topology` under `key`, with their names; what is not a mapping, validation names.
fn members<'a>(
    topology: &'a mut Mapping,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a mut Mapping)> {
    let members = topology.get_mut(key).and_then(Value::as_object_mut);
    members
        .into_iter()
        .flatten()
        .filter_map(|(name, member)| Some((name, member.as_object_mut()?)))
}

/// Takes another network where the archive's is in use, with each guest's place in it.
pub(super) fn move_network(
    topology: &mut Mapping,
    taken: &[Ipv4Net],
    notes: &mut Vec<String>,
) -> Result<()> {
    let network = topology.get_mut("network").and_then(Value::as_object_mut);
    let cidr = network.and_then(|network| network.get_mut("cidr"));
    let Some((cidr, old)) = cidr.and_then(|cidr| {
        let old = cidr.as_str()?.parse::<Ipv4Net>().ok()?;
        Some((cidr, old))
    }) else {
        // The validation that follows names it.
        return Ok(());
    };
    let meets = |net: &Ipv4Net| {
        taken
            .iter()
            .any(|other| other.contains(net) || net.contains(other))
    };
    if !meets(&old) {
        return Ok(());
    }
    let mut others = (64..=255).filter_map(|third| {
        Ipv4Net::new(Ipv4Addr::new(10, third, 0, 0), old.prefix_len().max(16)).ok()
    });
    let new = others
        .find(|net| !meets(net))
        .with_context(|| format!("the network {old} is in use, and no other is free"))?;
    *cidr = json!(new.to_string());
    let (old_base, new_base) = (u32::from(old.network()), u32::from(new.network()));
    for (_, domain) in members(topology, "domains") {
        let address = domain.get("address").and_then(Value::as_str);
        let address = address.and_then(|text| text.parse::<Ipv4Addr>().ok());
        if let Some(address) = address.filter(|address| old.contains(address)) {
            let place = u32::from(address) - old_base;
            let moved = Ipv4Addr::from(new_base.wrapping_add(place));
            domain.insert("address".to_owned(), json!(moved));
        }
    }
    notes.push(format!(
        "the network {old} is in use here; the deployment gets {new}"
    ));
    Ok(())
}

/// Publishes on another port where something listens on the archive's.
pub(super) fn move_ports(topology: &mut Mapping, taken: &Taken, notes: &mut Vec<String>) {
    for (name, domain) in members(topology, "domains") {
        let published = domain.get_mut("publish").and_then(Value::as_array_mut);
        for publish in published.into_iter().flatten() {
            let Some(host) = listening(publish).filter(|host| (taken.listening)(*host)) else {
                continue;
            };
            if let Some(free) = free_port(host.ip()) {
                notes.push(format!("{host} is in use; `{name}` is published on {free}"));
                listen(publish, free);
            }
        }
    }
}

/// The address of an entry of `publish`: text, or a mapping.
fn listening(publish: &Value) -> Option<SocketAddr> {
    let host = match publish {
        Value::String(text) => text.rsplit_once(':')?.0,
        other => other.get("listen")?.as_str()?,
    };
    host.parse().ok()
}

fn listen(publish: &mut Value, on: SocketAddr) {
    match publish {
        Value::String(text) => {
            let guest = text.rsplit_once(':').map_or("", |(_, guest)| guest);
            *text = format!("{on}:{guest}");
        }
        other => other["listen"] = json!(on),
    }
}

/// A port that nothing listens on. If something else takes it before `up` does, `up` reports that.
fn free_port(ip: IpAddr) -> Option<SocketAddr> {
    std::net::TcpListener::bind((ip, 0)).ok()?.local_addr().ok()
}
