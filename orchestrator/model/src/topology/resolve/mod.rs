//! Converts the tree to a [`Spec`]: checks every value, and resolves defaults, addresses and MACs.

mod addresses;
mod disks;
mod domain;
mod domains;
mod graph;
mod hardware;
mod image;
mod names;
mod network;
mod publish;
mod service;

pub(crate) use hardware::LEAST_MEMORY;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Found;
use super::fault::Fault;
use super::keys;
use super::read::Reader;
use super::tree::{Node, Value};
use image::Images;

use crate::spec::{Accel, Connection, ImageSpec, Name, Spec};

/// The base directory of paths, and a function that returns the type of file at a path.
struct Files<'a> {
    folder: &'a Path,
    look: &'a dyn Fn(&Path) -> Found,
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
        if (self.look)(&path) != wanted {
            let kind = if wanted == Found::Folder {
                "directory"
            } else {
                "file"
            };
            reader.fault(
                Fault::new(node.at, format!("no such {kind}: `{}`", path.display())).help(help),
            );
        }
        Some(path)
    }
}

/// Whether a part of a guest's path needs no quoting, and leads to no other folder.
fn is_plain(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !part.is_empty() && ![".", ".."].contains(&part) && part.chars().all(plain)
}

pub(super) fn resolve(
    tree: &Node,
    folder: &Path,
    look: &dyn Fn(&Path) -> Found,
) -> Result<Spec, Vec<Fault>> {
    let reader = Reader::default();
    let spec = topology(&reader, tree, &Files { folder, look });
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
    );
    let used: BTreeSet<&String> = domains.values().map(|domain| &domain.image).collect();
    images.retain(|key, _| used.contains(key));
    Some(Spec {
        name: name?,
        connection: connection?,
        accel: accel?,
        autostart: autostart?,
        network: network?,
        images: resolved(images)?,
        domains,
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
        reader.fault(fault.help("pspd creates disks and ports on this host; run pspd on that host, or use a local URI such as `qemu:///system`"));
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
