//! Reads a domain, without its address and MAC.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::super::fault::Position;
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Key, Node};
use super::image::{self, Images};
use super::{Files, disks, hardware, hosts, publish, service, unknown};
use crate::publish::Publish;
use crate::spec::{DomainSpec, Firmware, HostSpec, Mac, Name, Push};

/// The values of a domain.
pub(super) struct Draft {
    /// `None` if a value is invalid. Name, peers, address and MAC are set later.
    pub spec: Option<DomainSpec>,
    pub has_service: bool,
    pub address: Option<(Ipv4Addr, Position)>,
    pub depends_on: Vec<(Name, Position)>,
    pub peers: Vec<(Name, Position)>,
    pub publish: Vec<(Publish, Position)>,
}

/// What a domain can name.
pub(super) struct Known<'a> {
    /// Sorted.
    pub domains: Vec<&'a str>,
    pub hosts: &'a BTreeMap<Name, HostSpec>,
}

pub(super) fn draft(
    reader: &Reader,
    key: &Key,
    node: &Node,
    files: &Files,
    images: &Images,
    known: &Known,
) -> Option<Draft> {
    let fields = reader.object(node, key.at, &keys::DOMAIN)?;
    let host = hosts::of_domain(reader, &fields, known.hosts);
    let image = fields.get("image").and_then(|node| {
        if image::is_inline(node) {
            return Some(key.name.clone());
        }
        let text = reader.text(node, "image")?;
        let names: Vec<&str> = images.keys().map(String::as_str).collect();
        if !images.contains_key(text) {
            unknown(reader, node, "image", text, &names);
        }
        Some(text.to_owned())
    });
    let is_built = image
        .as_ref()
        .and_then(|image| images.get(image)?.as_ref())
        .is_none_or(|image| image.source.is_built());
    let firmware = fields
        .get("firmware")
        .map_or(Some(Firmware::Seabios), |node| {
            hardware::firmware(reader, node, files)
        });
    let boot = hardware::boot(reader, &fields, firmware.as_ref(), is_built);
    let machine = hardware::machine(reader, &fields, firmware.as_ref());
    let memory = hardware::memory(reader, &fields, firmware.as_ref());
    let vcpus = hardware::vcpus(reader, &fields);
    let (system_disk, volumes) = disks::disks(reader, &fields);
    let depends_on = others(reader, &fields, "depends_on", &known.domains);
    let peers = others(reader, &fields, "peers", &known.domains);
    let publish = publish::publish(reader, &fields, files);
    let address = fields
        .get("address")
        .and_then(|node| Some((reader.parsed(node, "address", parse_address)?, node.at)));
    // For these two, `Some(None)` means absent, and `None` means invalid.
    let service = fields.get("service").map_or(Some(None), |node| {
        let place = service::Place {
            domain: &key.name,
            at: fields.at("service"),
        };
        service::service(reader, node, place, files).map(Some)
    });
    let boot_timeout = fields.get("boot_timeout").map_or(Some(None), |node| {
        reader.duration(node, "boot_timeout").map(Some)
    });
    let push = fields.get("push").map_or(Some(Push::Auto), |node| {
        reader.word(node, "push", &[("auto", Push::Auto), ("ssh", Push::Ssh)])
    });
    let names = depends_on.iter().map(|(name, _)| name.clone()).collect();
    let published = publish.iter().map(|(publish, _)| publish.clone()).collect();
    let spec = || {
        Some(DomainSpec {
            name: Name::new("draft").ok()?,
            host,
            image: image?,
            firmware: firmware?,
            boot: boot?,
            machine: machine?,
            memory: memory?,
            vcpus: vcpus?,
            system_disk,
            volumes,
            depends_on: names,
            peers: BTreeSet::new(),
            service: service?,
            publish: published,
            boot_timeout: boot_timeout?,
            push: push?,
            address: Ipv4Addr::UNSPECIFIED,
            mac: Mac([0; 6]),
        })
    };
    Some(Draft {
        spec: spec(),
        has_service: fields.get("service").is_some(),
        address,
        depends_on,
        peers,
        publish,
    })
}

fn parse_address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a valid IPv4 address"))
}

/// Reads a list of domains.
fn others(reader: &Reader, fields: &Fields, key: &str, known: &[&str]) -> Vec<(Name, Position)> {
    let items = fields
        .get(key)
        .map(|node| reader.list(node, key))
        .unwrap_or_default();
    let mut names = Vec::new();
    for node in items {
        let Some(text) = reader.text(node, key) else {
            continue;
        };
        // `known` is sorted.
        if known.binary_search(&text).is_err() {
            unknown(reader, node, "domain", text, known);
        } else if let Ok(name) = Name::new(text) {
            names.push((name, node.at));
        }
    }
    names
}
