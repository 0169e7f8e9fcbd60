//! Reads what a domain publishes: ports as text, fronts as mappings.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::super::Found;
use super::super::fault::{Fault, Position};
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::Files;
use crate::publish::{Front, FrontTls, Publish};

/// Of a name in DNS, without a final dot.
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

pub(super) fn publish(reader: &Reader, fields: &Fields, files: &Files) -> Vec<(Publish, Position)> {
    let items = fields
        .get("publish")
        .map(|node| reader.list(node, "publish"))
        .unwrap_or_default();
    let read = |node: &Node| match &node.value {
        Value::Map(_) => front(reader, node, files),
        _ => reader.parsed(node, "publish", port),
    };
    items
        .iter()
        .filter_map(|node| Some((read(node)?, node.at)))
        .collect()
}

fn port(text: &str) -> Result<Publish, String> {
    let invalid =
        || format!("`{text}` is not a valid published port; write it like `127.0.0.1:8080:8080`");
    let (host, guest_port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let guest_port: u16 = guest_port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(invalid)?;
    Ok(Publish {
        host: listening(host).ok_or_else(invalid)?,
        guest_port,
        http: None,
    })
}

/// `[ADDRESS:]PORT`, on loopback without an address.
fn listening(text: &str) -> Option<SocketAddr> {
    let host = match text.parse::<u16>() {
        Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
        Err(_) => text.parse().ok()?,
    };
    (host.port() != 0).then_some(host)
}

fn front(reader: &Reader, node: &Node, files: &Files) -> Option<Publish> {
    let fields = reader.object(node, node.at, &keys::FRONT)?;
    let guest_port = fields
        .get("http")
        .and_then(|node| reader.number(node, "http", 1, 65535));
    let host = fields.get("listen").and_then(|node| {
        reader.parsed(node, "listen", |text| {
            listening(text).ok_or_else(|| {
                format!("`{text}` is not a valid address and port; write it like `0.0.0.0:8080`")
            })
        })
    });
    let hosts = hosts(reader, &fields);
    // `Some(None)` means absent, and `None` means invalid.
    let tls = fields
        .get("tls")
        .map_or(Some(None), |node| tls(reader, node, files).map(Some));
    let publish = Publish {
        host: host?,
        guest_port: guest_port? as u16,
        http: Some(Front {
            hosts: hosts?,
            tls: tls?,
        }),
    };
    if fields.get("tls").is_some() && publish.certificate_names().is_empty() {
        let message = format!(
            "a certificate for `{}` has no names: it listens on all addresses",
            publish.host
        );
        let fault = Fault::new(fields.at("tls"), message);
        reader.fault(fault.help("add `hosts`, or listen on a single address"));
    }
    Some(publish)
}

fn hosts(reader: &Reader, fields: &Fields) -> Option<BTreeSet<String>> {
    let Some(node) = fields.get("hosts") else {
        return Some(BTreeSet::new());
    };
    let items = reader.list(node, "hosts");
    if matches!(node.value, Value::List(_)) && items.is_empty() {
        let fault = Fault::new(node.at, "hosts must have at least one name");
        reader.fault(fault.help("remove it to answer for every host name"));
        return None;
    }
    let names = items
        .iter()
        .map(|node| reader.parsed(node, "a host", host_name));
    names.collect()
}

fn host_name(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= LONGEST_HOST && text.split('.').all(is_label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "`{text}` is not a valid host name; write it like `app.example.org`, without a port"
        ))
    }
}

fn tls(reader: &Reader, node: &Node, files: &Files) -> Option<FrontTls> {
    if !matches!(node.value, Value::Map(_)) {
        return reader
            .word(node, "tls", &[("self-signed", ())])
            .map(|()| FrontTls::SelfSigned);
    }
    let fields = reader.object(node, node.at, &keys::FRONT_TLS)?;
    let file = |key| {
        let node = fields.get(key)?;
        files.expect(reader, node, key, Found::File, "use the path of a PEM file")
    };
    let (cert, key) = (file("cert"), file("key"));
    Some(FrontTls::Files {
        cert: cert?,
        key: key?,
    })
}
