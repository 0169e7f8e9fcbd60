//! What a deployment that comes from elsewhere gets of its own on this host: a network and ports that are free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

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
    let mut ports = Ports::default();
    for (_, domain) in members(topology, "domains") {
        ports
            .used
            .extend(published(domain).filter_map(|publish| Some(listening(publish)?.port())));
    }
    for (name, domain) in members(topology, "domains") {
        for publish in published(domain) {
            let Some(host) = listening(publish).filter(|host| (taken.listening)(*host)) else {
                continue;
            };
            if let Some(free) = ports.free(host.ip()) {
                notes.push(format!("{host} is in use; `{name}` is published on {free}"));
                listen(publish, free);
            }
        }
    }
}

fn published(domain: &mut Mapping) -> impl Iterator<Item = &mut Value> {
    let published = domain.get_mut("publish").and_then(Value::as_array_mut);
    published.into_iter().flatten()
}

/// Picks ports, each once.
#[derive(Default)]
struct Ports {
    /// Those that the topology has.
    used: BTreeSet<u16>,
    /// Those that were picked: the system gives no port out again that something listens on.
    picked: Vec<TcpListener>,
}

impl Ports {
    /// A port that nothing listens on. If something else takes it before `up` does, `up` reports that.
    fn free(&mut self, ip: IpAddr) -> Option<SocketAddr> {
        loop {
            let listener = TcpListener::bind((ip, 0)).ok()?;
            let free = listener.local_addr().ok()?;
            self.picked.push(listener);
            if self.used.insert(free.port()) {
                return Some(free);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_published_port_moves_to_one_of_its_own() {
        let ports = 1..=300;
        let publish: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}:80")).collect();
        let Value::Object(mut topology) = json!({"domains": {"web": {"publish": publish}}}) else {
            unreachable!("it is an object");
        };
        let taken = Taken {
            networks: Vec::new(),
            listening: |_| true,
        };
        move_ports(&mut topology, &taken, &mut Vec::new());
        let (_, web) = members(&mut topology, "domains").next().unwrap();
        let moved: BTreeSet<_> = published(web)
            .filter_map(|publish| listening(publish))
            .collect();
        assert_eq!(moved.len(), 300);
        assert!(moved.iter().all(|host| host.port() > 300));
    }
}
