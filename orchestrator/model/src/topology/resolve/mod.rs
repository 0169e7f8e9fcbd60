//! Converts the tree to a [`Spec`]: checks every value, and resolves defaults, addresses and MACs.

mod addresses;
mod beside;
mod disks;
mod domain;
mod domains;
mod environment;
mod graph;
mod hardware;
mod hosts;
mod image;
mod line;
mod names;
mod network;
mod publish;
mod service;

pub(crate) use hardware::LEAST_MEMORY;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::keys;
use super::read::Reader;
use super::tree::{Node, Value};
use super::{Found, Host};
use image::Images;

use crate::spec::{Accel, Connection, ImageSpec, Name, Spec};

/// The base directory of paths, and the host that has them.
struct Files<'a> {
    folder: &'a Path,
    host: &'a dyn Host,
    /// How many bytes of environment files were read for all services.
    read: Cell<usize>,
}

impl Files<'_> {
    fn resolve(&self, text: &str) -> PathBuf {
        // Lexical: `a/../b` may cross a link, so `..` is not resolved.
        self.folder
            .join(text)
            .components()
            .filter(|part| *part != std::path::Component::CurDir)
            .collect()
    }

    /// Reads a path that must exist and have the wanted type.
    fn expect(
        &self,
        reader: &Reader,
        node: &Node,
        what: &str,
        wanted: Found,
        help: &str,
    ) -> Option<PathBuf> {
        let path = self.resolve(reader.text(node, what)?);
        let kind = match wanted {
            Found::Folder => "directory",
            _ => "file",
        };
        let found = self.host.look(&path);
        if found != wanted {
            reader.fault(absent(found, kind, &path, node).help(help));
        }
        Some(path)
    }

    /// Reads a path at which there must be a file or a directory.
    fn expect_any(&self, reader: &Reader, node: &Node, what: &str, help: &str) -> Option<PathBuf> {
        let path = self.resolve(reader.text(node, what)?);
        let found = self.host.look(&path);
        if matches!(found, Found::Nothing | Found::Other) {
            reader.fault(absent(found, "file or directory", &path, node).help(help));
        }
        Some(path)
    }
}

/// What is wrong with a path at which something else is, or nothing.
fn absent(found: Found, kind: &str, path: &Path, node: &Node) -> Fault {
    let message = match found {
        Found::Other => format!("`{}` is a device, a pipe or a socket", path.display()),
        _ => format!("no such {kind}: `{}`", path.display()),
    };
    Fault::new(node.at, message)
}

/// Whether a part of a guest's path needs no quoting, and leads to no other folder.
fn is_plain(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !part.is_empty() && ![".", ".."].contains(&part) && part.chars().all(plain)
}

pub(super) fn resolve(tree: &Node, folder: &Path, host: &dyn Host) -> Result<Spec, Vec<Fault>> {
    let reader = Reader::default();
    let spec = topology(
        &reader,
        tree,
        &Files {
            folder,
            host,
            read: Cell::new(0),
        },
    );
    let faults = reader.into_faults();
    match spec {
        Some(spec) if faults.is_empty() => Ok(spec),
        _ => Err(faults),
    }
}

fn topology(reader: &Reader, tree: &Node, files: &Files) -> Option<Spec> {
    if let Value::Map(entries) = &tree.value
        && !entries
            .iter()
            .any(|(key, _)| ["domains", "images"].contains(&key.name.as_str()))
    {
        let message = "the file is not a topology: it has neither `domains` nor `images`";
        reader.fault(Fault::new(tree.at, message).help("run `pspd init` to create a topology"));
        return None;
    }
    let fields = reader.object(tree, tree.at, &keys::TOPOLOGY)?;
    let name = fields
        .get("name")
        .and_then(|node| reader.name(reader.text(node, "name")?, node.at));
    let connection = fields
        .get("connection")
        .map_or(Some(Connection::Lab), |node| connection(reader, node));
    let mut hosts = hosts::hosts(reader, &fields, files, connection.as_ref());
    let words = [
        ("auto", Accel::Auto),
        ("kvm", Accel::Kvm),
        ("tcg", Accel::Tcg),
    ];
    let accel = fields
        .get("accel")
        .map_or(Some(Accel::Auto), |node| reader.word(node, "accel", &words));
    let words = [("true", true), ("false", false)];
    let autostart = fields
        .get("autostart")
        .map_or(Some(false), |node| reader.word(node, "autostart", &words));
    let mut images = image::images(reader, &fields, files);
    // Domains are read even if earlier values are invalid, so that all faults are reported at once.
    let placeholder = Name::new("topology").expect("it is a DNS label");
    let network = network::network(
        reader,
        &fields,
        name.as_ref().unwrap_or(&placeholder),
        connection.as_ref(),
    );
    let domains = domains::domains(
        reader,
        &fields,
        files,
        name.as_ref().unwrap_or(&placeholder),
        network.as_ref(),
        &images,
        &hosts,
    );
    if let Some(network) = &network {
        hosts::assign(reader, &mut hosts, &domains, network.cidr, tree.at);
    }
    let used: BTreeSet<&String> = domains.values().map(|domain| &domain.image).collect();
    images.retain(|key, _| used.contains(key));
    Some(Spec {
        name: name?,
        hosts,
        connection: connection?,
        accel: accel?,
        autostart: autostart?,
        network: network?,
        images: resolved(images)?,
        domains,
        elsewhere: BTreeMap::new(),
    })
}

fn resolved(images: Images) -> Option<BTreeMap<String, ImageSpec>> {
    images
        .into_iter()
        .map(|(name, image)| Some((name, image?)))
        .collect()
}

fn connection(reader: &Reader, node: &Node) -> Option<Connection> {
    let text = reader.text(node, "connection")?;
    if text == "lab" {
        return Some(Connection::Lab);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        reader.fault(
            Fault::new(node.at, format!("invalid value `{text}` for connection"))
                .help("write `lab`, or a libvirt URI such as `qemu:///system`"),
        );
        return None;
    };
    if scheme.contains('+') || !rest.starts_with('/') {
        let fault = Fault::new(node.at, format!("`{text}` is on another host"));
        reader.fault(fault.help("write `hosts: {NAME: {ssh: USER@ADDRESS}}` to run the domains there, or use a local URI such as `qemu:///system`"));
        return None;
    }
    Some(Connection::Uri(text.to_owned()))
}

/// Reports an unknown name and suggests a similar known name.
fn unknown(reader: &Reader, node: &Node, what: &str, name: &str, known: &[&str]) {
    reader.fault(
        Fault::new(node.at, format!("unknown {what} `{name}`")).help(reader.meant(name, known)),
    );
}
