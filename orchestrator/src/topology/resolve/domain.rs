//! Domains: their hardware, disks, service and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::super::Found;
use super::super::fault::{Fault, Position};
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::{Files, addresses, graph, unknown};
use crate::spec::{
    Boot, DomainSpec, Firmware, ImageSource, ImageSpec, Machine, Name, NetworkSpec, Publish, Range,
    ServiceSpec, Size, VolumeSpec,
};

const MEMORY: Size = Size::mib(512);
const LEAST_MEMORY: Size = Size::mib(64);
const SYSTEM_DISK: Size = Size::gib(4);
/// QEMU cuts a disk's serial, by which the guest finds it, to this length.
const LONGEST_VOLUME: usize = 20;
const SSH: u16 = 22;

type Images = BTreeMap<String, Option<ImageSpec>>;

/// All domains that could be read; faults say what is wrong with the others.
pub fn domains(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
    deployment: &Name,
    network: Option<&NetworkSpec>,
    images: &Images,
) -> BTreeMap<Name, DomainSpec> {
    let Some(node) = fields.get("domains") else {
        return BTreeMap::new();
    };
    let entries = reader.entries(node, "domains").unwrap_or_default();
    if entries.is_empty() {
        reader.fault(Fault::new(node.at, "a topology has at least one domain"));
    }
    let known: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
    let mut drafts = BTreeMap::new();
    for (key, node) in &entries {
        let name = reader.name(&key.name, key.at);
        let draft = draft(reader, node, key.at, files, images, &known);
        if let (Some(name), Some(draft)) = (name, draft) {
            drafts.insert(name, draft);
        }
    }
    refuse_cycles(reader, &drafts, fields.at("domains"));
    refuse_shared_ports(reader, &drafts);
    let Some(network) = network else {
        return BTreeMap::new();
    };
    place(reader, drafts, deployment, network, node.at)
}

/// A domain before it has an address.
struct Draft {
    spec: DomainSpec,
    address: Option<(Ipv4Addr, Position)>,
    depends_on: Vec<(Name, Position)>,
    publish: Vec<(Publish, Position)>,
}

fn draft(
    reader: &Reader,
    node: &Node,
    at: Position,
    files: &Files,
    images: &Images,
    known: &[&str],
) -> Option<Draft> {
    let fields = reader.object(node, at, &keys::DOMAIN)?;
    let image = fields.get("image").and_then(|node| {
        let text = reader.text(node, "image")?;
        let names: Vec<&str> = images.keys().map(String::as_str).collect();
        if !images.contains_key(text) {
            unknown(reader, node, "image", text, &names);
        }
        Some(text.to_owned())
    });
    let recipe = image
        .as_ref()
        .and_then(|image| images.get(image)?.as_ref())
        .is_none_or(|image| matches!(image.source, ImageSource::Recipe(_)));
    let firmware = fields
        .get("firmware")
        .map_or(Some(Firmware::Seabios), |node| {
            firmware(reader, node, files)
        });
    let boot = boot(reader, &fields, recipe);
    let machine = machine(reader, &fields, firmware.as_ref());
    let memory = memory(reader, &fields);
    let vcpus = vcpus(reader, &fields);
    let (system_disk, volumes) = disks(reader, &fields);
    let service = fields
        .get("service")
        .map(|node| service(reader, node, fields.at("service"), files));
    let depends_on = depends_on(reader, &fields, known);
    let publish = publish(reader, &fields);
    let address = fields
        .get("address")
        .and_then(|node| Some((reader.parsed(node, "address", parse_address)?, node.at)));
    let boot_timeout = fields
        .get("boot_timeout")
        .map(|node| reader.duration(node, "boot_timeout"));
    let unplaced = Ipv4Addr::UNSPECIFIED;
    let spec = DomainSpec {
        name: Name::new("draft").expect("it is a DNS label"),
        image: image?,
        firmware: firmware?,
        boot: boot?,
        machine: machine?,
        memory: memory?,
        vcpus: vcpus?,
        system_disk,
        volumes,
        depends_on: depends_on.iter().map(|(name, _)| name.clone()).collect(),
        service: match service {
            Some(service) => Some(service?),
            None => None,
        },
        publish: publish.iter().map(|(publish, _)| *publish).collect(),
        boot_timeout: match boot_timeout {
            Some(timeout) => Some(timeout?),
            None => None,
        },
        address: unplaced,
        mac: crate::spec::Mac([0; 6]),
    };
    Some(Draft {
        spec,
        address,
        depends_on,
        publish,
    })
}

fn parse_address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no IPv4 address"))
}

fn firmware(reader: &Reader, node: &Node, files: &Files) -> Option<Firmware> {
    if let Value::Map(_) = node.value {
        let fields = reader.object(node, node.at, &keys::ROM)?;
        let path = fields
            .get("rom")
            .and_then(|node| files.expect(reader, node, "rom", Found::File, "name a ROM's file"));
        let sha256 = fields.get("sha256").and_then(|node| reader.digest(node));
        return Some(Firmware::Rom {
            path: path?,
            sha256: sha256?,
        });
    }
    if reader.text(node, "firmware")? == "coreboot" {
        reader.fault(
            Fault::new(node.at, "pspd does not build coreboot yet")
                .help("name a ROM that you have: {rom: FILE, sha256: DIGEST}"),
        );
        return None;
    }
    reader.word(node, "firmware", &[("seabios", ()), ("uefi", ())])?;
    Some(if reader.text(node, "firmware")? == "uefi" {
        Firmware::Uefi
    } else {
        Firmware::Seabios
    })
}

fn boot(reader: &Reader, fields: &Fields, recipe: bool) -> Option<Boot> {
    let default = if recipe { Boot::Kernel } else { Boot::Disk };
    let boot = fields.get("boot").map_or(Some(default), |node| {
        reader.word(
            node,
            "boot",
            &[("kernel", Boot::Kernel), ("disk", Boot::Disk)],
        )
    })?;
    if boot == Boot::Kernel && !recipe {
        reader.fault(
            Fault::new(
                fields.at("boot"),
                "only a recipe's image has a kernel of its own to boot",
            )
            .help("write `boot: disk`"),
        );
    }
    Some(boot)
}

fn machine(reader: &Reader, fields: &Fields, firmware: Option<&Firmware>) -> Option<Machine> {
    let seabios = matches!(firmware, None | Some(Firmware::Seabios));
    let default = if seabios { Machine::Pc } else { Machine::Q35 };
    let machine = fields.get("machine").map_or(Some(default), |node| {
        reader.word(
            node,
            "machine",
            &[("pc", Machine::Pc), ("q35", Machine::Q35)],
        )
    })?;
    if machine == Machine::Pc && matches!(firmware, Some(Firmware::Uefi)) {
        reader.fault(
            Fault::new(fields.at("machine"), "uefi does not run on `pc`")
                .help("write `machine: q35`, or leave it out"),
        );
    }
    Some(machine)
}

fn memory(reader: &Reader, fields: &Fields) -> Option<Range<Size>> {
    let Some(node) = fields.get("memory") else {
        return Some(Range {
            current: MEMORY,
            maximum: MEMORY,
        });
    };
    let range = if let Value::Map(_) = node.value {
        let own = reader.object(node, node.at, &keys::MEMORY)?;
        let current = own
            .get("current")
            .and_then(|node| reader.size(node, "current"));
        let maximum = own
            .get("maximum")
            .map_or(current, |node| reader.size(node, "maximum"));
        Range {
            current: current?,
            maximum: maximum?,
        }
    } else {
        let size = reader.size(node, "memory")?;
        Range {
            current: size,
            maximum: size,
        }
    };
    if range.current > range.maximum {
        reader.fault(Fault::new(
            node.at,
            format!(
                "the current memory, {}, is more than the maximum, {}",
                range.current, range.maximum
            ),
        ));
    }
    if range.current < LEAST_MEMORY {
        reader.fault(Fault::new(
            node.at,
            format!(
                "{} is too little to boot with; give at least {LEAST_MEMORY}",
                range.current
            ),
        ));
    }
    if !range.current.0.is_multiple_of(1 << 20) || !range.maximum.0.is_multiple_of(1 << 20) {
        reader.fault(Fault::new(node.at, "memory is given in whole MiB"));
    }
    Some(range)
}

fn vcpus(reader: &Reader, fields: &Fields) -> Option<Range<u32>> {
    let Some(node) = fields.get("vcpus") else {
        return Some(Range {
            current: 1,
            maximum: 1,
        });
    };
    let count = |node: &Node, what: &str| {
        reader
            .number(node, what, 1, 255)
            .map(|number| number as u32)
    };
    let range = if let Value::Map(_) = node.value {
        let own = reader.object(node, node.at, &keys::VCPUS)?;
        let current = own.get("current").and_then(|node| count(node, "current"));
        let maximum = own
            .get("maximum")
            .map_or(current, |node| count(node, "maximum"));
        Range {
            current: current?,
            maximum: maximum?,
        }
    } else {
        let number = count(node, "vcpus")?;
        Range {
            current: number,
            maximum: number,
        }
    };
    if range.current > range.maximum {
        reader.fault(Fault::new(
            node.at,
            format!(
                "{} current vCPUs are more than the maximum, {}",
                range.current, range.maximum
            ),
        ));
    }
    Some(range)
}

fn disks(reader: &Reader, fields: &Fields) -> (Size, Vec<VolumeSpec>) {
    let entries = fields
        .get("disks")
        .and_then(|node| reader.entries(node, "disks"))
        .unwrap_or_default();
    let mut system = SYSTEM_DISK;
    let mut volumes: Vec<VolumeSpec> = Vec::new();
    for (key, node) in entries {
        if key.name == "system" {
            system = reader
                .size(node, "the system disk's size")
                .unwrap_or(system);
            continue;
        }
        let name = reader.name(&key.name, key.at);
        if key.name.len() > LONGEST_VOLUME || key.name == "seed" {
            let why = if key.name == "seed" {
                "is reserved"
            } else {
                "is too long"
            };
            reader.fault(
                Fault::new(key.at, format!("the volume name `{}` {why}", key.name)).help(format!(
                    "take another of at most {LONGEST_VOLUME} characters"
                )),
            );
        }
        if let Some((name, volume)) = name.zip(volume(reader, node)) {
            if let Some(other) = volumes.iter().find(|other| other.mount == volume.1) {
                reader.fault(Fault::new(
                    key.at,
                    format!("`{}` is mounted where `{}` is", name, other.name),
                ));
            }
            volumes.push(VolumeSpec {
                name,
                size: volume.0,
                mount: volume.1,
            });
        }
    }
    (system, volumes)
}

fn volume(reader: &Reader, node: &Node) -> Option<(Size, PathBuf)> {
    let own = reader.object(node, node.at, &keys::VOLUME)?;
    let size = own.get("size").and_then(|node| reader.size(node, "size"));
    let mount = own
        .get("mount")
        .and_then(|node| reader.parsed(node, "mount", guest_path));
    Some((size?, mount?))
}

/// A path for use in the guest's units: absolute and without what would need quoting there.
fn guest_path(text: &str) -> Result<PathBuf, String> {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if text.starts_with('/') && text.len() > 1 && plain && !text.split('/').any(|part| part == "..")
    {
        Ok(PathBuf::from(text.trim_end_matches('/')))
    } else {
        Err(format!(
            "`{text}` is no absolute path of letters, digits and ./_-"
        ))
    }
}

fn service(reader: &Reader, node: &Node, at: Position, files: &Files) -> Option<ServiceSpec> {
    let fields = reader.object(node, at, &keys::SERVICE)?;
    let binary = fields.get("binary").and_then(|node| {
        files.expect(
            reader,
            node,
            "binary",
            Found::File,
            "build it, or name the executable that is there",
        )
    });
    let port = fields.get("port").and_then(|node| {
        let port = reader.number(node, "port", 1, 65535)? as u16;
        if port == SSH {
            reader.fault(
                Fault::new(node.at, "port 22 is reserved for SSH")
                    .help("take another one, such as 50051"),
            );
        }
        Some(port)
    });
    let health = fields
        .get("health")
        .and_then(|node| reader.text(node, "health"));
    Some(ServiceSpec {
        environment: environment(reader, &fields),
        arguments: arguments(reader, &fields),
        files: beside(reader, &fields, files),
        binary: binary?,
        port: port?,
        health: health?.to_owned(),
    })
}

fn environment(reader: &Reader, fields: &Fields) -> BTreeMap<String, String> {
    let entries = fields
        .get("environment")
        .and_then(|node| reader.entries(node, "environment"))
        .unwrap_or_default();
    let mut environment = BTreeMap::new();
    for (key, node) in entries {
        let valid = !key.name.is_empty()
            && key
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !key.name.starts_with(|c: char| c.is_ascii_digit());
        if !valid {
            reader.fault(Fault::new(
                key.at,
                format!("`{}` is no environment variable's name", key.name),
            ));
        }
        if key.name.starts_with("PSPD_") {
            reader.fault(Fault::new(
                key.at,
                format!(
                    "`{}` is reserved: pspd sets the variables of that prefix",
                    key.name
                ),
            ));
        }
        if let Some(text) = one_line(reader, node, &key.name) {
            environment.insert(key.name.clone(), text);
        }
    }
    environment
}

fn arguments(reader: &Reader, fields: &Fields) -> Vec<String> {
    let items = fields
        .get("arguments")
        .map(|node| reader.list(node, "arguments"))
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|node| one_line(reader, node, "an argument"))
        .collect()
}

/// A text that can stand in a unit file.
fn one_line(reader: &Reader, node: &Node, what: &str) -> Option<String> {
    reader.parsed(node, what, |text| {
        if text.contains(['\n', '\0']) {
            Err(format!(
                "{what} has a line break or a NUL, which systemd cannot pass on"
            ))
        } else {
            Ok(text.to_owned())
        }
    })
}

fn beside(reader: &Reader, fields: &Fields, files: &Files) -> BTreeMap<PathBuf, PathBuf> {
    let entries = fields
        .get("files")
        .and_then(|node| reader.entries(node, "files"))
        .unwrap_or_default();
    let mut beside = BTreeMap::new();
    for (key, node) in entries {
        let path = Path::new(&key.name);
        if let Err(why) = refuse_beside(path) {
            reader.fault(
                Fault::new(key.at, format!("`{}` {why}", key.name))
                    .help("write it like `config.toml` or `data/words.txt`"),
            );
        }
        if let Some(from) = files.expect(
            reader,
            node,
            "files",
            Found::File,
            "name a file of this host",
        ) {
            beside.insert(path.to_owned(), from);
        }
    }
    beside
}

/// Why a path cannot be one beside the binary: what pspd itself puts there has these names.
fn refuse_beside(path: &Path) -> Result<(), &'static str> {
    let text = path.to_str().unwrap_or_default();
    let plain = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let normal = path
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    let own = ["environment", "mount-volumes"].contains(&text)
        || text.starts_with("tls")
        || text.starts_with('.')
        || text.ends_with(".service");
    match (plain && normal, own) {
        (false, _) => Err("is no path of letters, digits and ./_- below the binary's folder"),
        (true, true) => Err("is a name that pspd itself uses there"),
        (true, false) => Ok(()),
    }
}

fn depends_on(reader: &Reader, fields: &Fields, known: &[&str]) -> Vec<(Name, Position)> {
    let items = fields
        .get("depends_on")
        .map(|node| reader.list(node, "depends_on"))
        .unwrap_or_default();
    let mut names = Vec::new();
    for node in items {
        let Some(text) = reader.text(node, "depends_on") else {
            continue;
        };
        if !known.contains(&text) {
            unknown(reader, node, "domain", text, known);
        } else if let Ok(name) = Name::new(text) {
            names.push((name, node.at));
        }
    }
    names
}

fn publish(reader: &Reader, fields: &Fields) -> Vec<(Publish, Position)> {
    let items = fields
        .get("publish")
        .map(|node| reader.list(node, "publish"))
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|node| Some((reader.parsed(node, "publish", parse_publish)?, node.at)))
        .collect()
}

fn parse_publish(text: &str) -> Result<Publish, String> {
    let wrong = || format!("`{text}` is no published port; write it like `127.0.0.1:8080:8080`");
    let (host, guest_port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let guest_port: u16 = guest_port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(wrong)?;
    let host: SocketAddr = match host.parse::<u16>() {
        Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
        Err(_) => host.parse().map_err(|_| wrong())?,
    };
    if host.port() == 0 {
        return Err(wrong());
    }
    Ok(Publish { host, guest_port })
}

fn refuse_cycles(reader: &Reader, drafts: &BTreeMap<Name, Draft>, at: Position) {
    for (name, draft) in drafts {
        for (other, at) in &draft.depends_on {
            if drafts
                .get(other)
                .is_some_and(|other| other.spec.service.is_none())
            {
                reader.fault(Fault::new(
                    *at,
                    format!(
                        "`{name}` cannot wait for `{other}`, which has no service to become healthy"
                    ),
                ));
            }
        }
    }
    let edges: BTreeMap<Name, BTreeSet<Name>> = drafts
        .iter()
        .map(|(name, draft)| (name.clone(), draft.spec.depends_on.clone()))
        .collect();
    if let Some(cycle) = graph::cycle(&edges) {
        let named: Vec<&str> = cycle.iter().map(Name::as_str).collect();
        let at = drafts
            .get(&cycle[0])
            .and_then(|draft| draft.depends_on.iter().find(|(name, _)| *name == cycle[1]))
            .map_or(at, |(_, at)| *at);
        reader.fault(
            Fault::new(
                at,
                format!("the dependencies go in a circle: {}", named.join(" -> ")),
            )
            .help("remove one of them"),
        );
    }
}

fn refuse_shared_ports(reader: &Reader, drafts: &BTreeMap<Name, Draft>) {
    let mut taken: Vec<(SocketAddr, &Name)> = Vec::new();
    for (name, draft) in drafts {
        for (publish, at) in &draft.publish {
            let host = publish.host;
            let meets = |other: &SocketAddr| {
                let any = other.ip().is_unspecified() || host.ip().is_unspecified();
                other.port() == host.port() && (any || other.ip() == host.ip())
            };
            if let Some((_, by)) = taken.iter().find(|(other, _)| meets(other)) {
                let fault = Fault::new(*at, format!("`{host}` is published twice: by `{by}` too"));
                reader.fault(fault.help("take another port of the host"));
            }
            taken.push((host, name));
        }
    }
}

/// Gives each draft its name, address and MAC.
fn place(
    reader: &Reader,
    drafts: BTreeMap<Name, Draft>,
    deployment: &Name,
    network: &NetworkSpec,
    at: Position,
) -> BTreeMap<Name, DomainSpec> {
    let mut fixed: BTreeMap<Name, Ipv4Addr> = BTreeMap::new();
    for (name, draft) in &drafts {
        let Some((address, at)) = draft.address else {
            continue;
        };
        if let Err(message) = addresses::refuse(network.cidr, address) {
            reader.fault(Fault::new(at, message));
        } else if let Some((other, _)) = fixed.iter().find(|(_, taken)| **taken == address) {
            reader.fault(Fault::new(
                at,
                format!("`{address}` is the address of `{other}`"),
            ));
        }
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
            .help("take a larger one, such as 10.77.0.0/16"),
        );
        return BTreeMap::new();
    };
    let placed = drafts.into_iter().map(|(name, draft)| {
        let spec = DomainSpec {
            address: assigned[&name],
            mac: addresses::mac(deployment, &name),
            name: name.clone(),
            ..draft.spec
        };
        (name, spec)
    });
    placed.collect()
}
