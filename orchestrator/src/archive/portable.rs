//! A deployment without this host: its spec in topology.yaml's keys, and its XML as any libvirt host defines it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pspd_model::definition::{Interface, NetworkDefinition, NetworkHost, Ownership};
use pspd_model::spec::{
    Accel, Digest, DomainSpec, Firmware, ImageSpec, Machine, Name, NetworkSpec, Push, Range, Seed,
    ServiceSpec, Size, Spec, VolumeSpec,
};
use serde_json::{Map, Value, json};

use super::IMAGES;
use super::manifest::FileName;
use crate::accel::Accelerator;
use crate::libvirt::{Disk, DiskFormat, DomainConfig, FwCfg, Loader, plain_network_xml};

/// The archive's names of what the spec names by paths of this host.
#[derive(Default)]
pub(super) struct Names {
    /// By the image's key.
    pub images: BTreeMap<String, (FileName, Digest)>,
    /// Of the domains with an image of their own, which has the domain's name.
    pub flattened: BTreeMap<Name, (FileName, Digest)>,
    pub files: BTreeMap<PathBuf, FileName>,
    /// Of the domains that have one.
    pub roms: BTreeMap<Name, (FileName, Digest)>,
}

/// The file of a domain's XML; a domain could be called `network`.
pub(super) fn xml_file(domain: &Name) -> String {
    match domain.as_str() {
        "network" => "network.domain.xml".to_owned(),
        name => format!("{name}.xml"),
    }
}

/// The spec in topology.yaml's keys, everything resolved, with the archive's names for paths.
///
/// Every field of the spec is named here, so that a new one cannot be forgotten. The connection is not part of it: where
/// domains live is the importer's choice. Domains boot by their image's own boot loader: a kernel of the host stays there.
pub(super) fn topology(spec: &Spec, names: &Names) -> Value {
    let Spec {
        name,
        connection: _,
        // Whether it starts with its host is that host's to say.
        autostart: _,
        accel,
        network,
        images,
        domains,
    } = spec;
    let NetworkSpec {
        name: _,
        cidr,
        gateway: _,
        domain,
    } = network;
    let accel = match accel {
        Accel::Auto => "auto",
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    let domains: Map<String, Value> = domains
        .values()
        .map(|domain| (domain.name.to_string(), domain_topology(domain, names)))
        .collect();
    let shared = names
        .images
        .iter()
        .map(|(key, file)| (key.clone(), key, file));
    let flattened = names.flattened.iter().map(|(name, file)| {
        let image = &spec.domains[name].image;
        (name.to_string(), image, file)
    });
    let images: Map<String, Value> = shared
        .chain(flattened)
        .map(|(key, of, (file, sha256))| (key, image_topology(images.get(of), file, sha256)))
        .collect();
    json!({
        "name": name,
        "accel": accel,
        "network": {"cidr": cidr.to_string(), "domain": domain},
        "images": images,
        "domains": domains,
    })
}

fn image_topology(image: Option<&ImageSpec>, file: &FileName, sha256: &Digest) -> Value {
    let seed = match image.map(|image| image.seed) {
        Some(Seed::Nocloud) => "nocloud",
        Some(Seed::Credentials) | None => "credentials",
    };
    json!({"path": file, "sha256": sha256, "seed": seed})
}

fn domain_topology(domain: &DomainSpec, names: &Names) -> Value {
    let DomainSpec {
        name,
        image,
        firmware,
        boot: _,
        machine,
        memory,
        vcpus,
        system_disk,
        volumes,
        depends_on,
        service,
        publish,
        boot_timeout,
        push,
        address,
        mac: _,
    } = domain;
    let image = match names.flattened.contains_key(name) {
        true => name.to_string(),
        false => image.clone(),
    };
    let firmware = match firmware {
        Firmware::Seabios => json!("seabios"),
        Firmware::Uefi => json!("uefi"),
        // The archive has the ROM that pspd built here; it is not built again elsewhere.
        Firmware::Coreboot(_) | Firmware::Rom { .. } => match names.roms.get(name) {
            Some((file, sha256)) => json!({"rom": file, "sha256": sha256}),
            None => Value::Null,
        },
    };
    let machine = match machine {
        Machine::Pc => "pc",
        Machine::Q35 => "q35",
    };
    let mut disks = Map::from_iter([("system".to_owned(), json!(size(*system_disk)))]);
    for VolumeSpec {
        name,
        size: bytes,
        mount,
    } in volumes
    {
        disks.insert(
            name.to_string(),
            json!({"size": size(*bytes), "mount": mount}),
        );
    }
    let publish: Vec<String> = publish
        .iter()
        .map(|one| format!("{}:{}", one.host, one.guest_port))
        .collect();
    let mut value = json!({
        "image": image,
        "address": address,
        "firmware": firmware,
        "machine": machine,
        "boot": "disk",
        "memory": range(memory, |bytes| json!(size(*bytes))),
        "vcpus": range(vcpus, |count| json!(count)),
        "disks": disks,
        "depends_on": depends_on,
        "publish": publish,
    });
    if let Some(service) = service {
        value["service"] = service_topology(service, names);
    }
    if let Some(timeout) = boot_timeout {
        value["boot_timeout"] = json!(format!("{}s", timeout.as_secs()));
    }
    // Earlier versions, which do not have the key, read an archive with the default.
    if *push == Push::Ssh {
        value["push"] = json!(push);
    }
    value
}

fn service_topology(service: &ServiceSpec, names: &Names) -> Value {
    let ServiceSpec {
        binary,
        port,
        health,
        environment,
        secrets,
        arguments,
        checkpoint,
        start_timeout,
        tls_key_log,
        files,
    } = service;
    let files: BTreeMap<&PathBuf, _> = files
        .iter()
        .map(|(guest, host)| (guest, names.files.get(host)))
        .collect();
    // Values are not part of it: the importer makes new ones, or has them in files of their own.
    let secrets: BTreeMap<&String, _> = secrets.keys().map(|name| (name, "generate")).collect();
    let mut value = json!({
        "binary": names.files.get(binary),
        "port": port,
        "health": health,
        "environment": environment,
        "secrets": secrets,
        "arguments": arguments,
        "checkpoint": checkpoint,
        "files": files,
    });
    if let Some(timeout) = start_timeout {
        value["start_timeout"] = json!(format!("{}s", timeout.as_secs()));
    }
    // As with `push`: earlier versions do not have the key.
    if *tls_key_log {
        value["tls_key_log"] = json!(true);
    }
    value
}

fn range<T>(range: &Range<T>, value: impl Fn(&T) -> Value) -> Value {
    json!({"current": value(&range.current), "maximum": value(&range.maximum)})
}

/// Exact, where [`Size`]'s own text rounds: a topology's sizes are whole KiB.
fn size(size: Size) -> String {
    format!("{} KiB", size.0.div_ceil(1024))
}

/// One file of the archive in the folder that the XML names.
pub(super) fn placed(name: &FileName) -> PathBuf {
    Path::new(IMAGES).join(name.as_str())
}

/// What a domain's XML contains beside the spec.
pub(super) struct Plain<'a> {
    pub accelerator: Accelerator,
    pub oem_strings: Vec<String>,
    /// System disk first, each with its serial.
    pub disks: Vec<(FileName, String)>,
    pub host_key: Option<FileName>,
    pub names: &'a Names,
}

/// A domain's XML for a person's own `virsh define`: without pspd's mark, and with paths of libvirt's own folder.
pub(super) fn domain_xml(spec: &Spec, domain: &DomainSpec, plain: Plain<'_>) -> String {
    let firmware = match (&domain.firmware, plain.names.roms.get(&domain.name)) {
        (_, Some((file, _))) => Loader::Rom { path: placed(file) },
        (Firmware::Uefi, None) => Loader::Uefi,
        (_, None) => Loader::Seabios,
    };
    let disks = plain.disks.into_iter().map(|(name, serial)| Disk {
        path: placed(&name),
        format: DiskFormat::Qcow2,
        serial,
        read_only: false,
    });
    let key = plain.host_key.map(|name| FwCfg::host_key(placed(&name)));
    let definition = DomainConfig {
        name: domain.name.clone(),
        ownership: unmarked(spec),
        accelerator: plain.accelerator,
        machine: domain.machine,
        firmware,
        kernel: None,
        memory: domain.memory,
        vcpus: domain.vcpus,
        disks: disks.collect(),
        interfaces: vec![Interface {
            network: spec.network.name.clone(),
            mac: domain.mac,
        }],
        oem_strings: plain.oem_strings,
        fw_cfg: key.into_iter().collect(),
        serial_log: PathBuf::new(),
        firmware_log: PathBuf::new(),
    };
    definition.to_plain_xml()
}

/// The network's XML for a person's own `virsh net-define`.
pub(super) fn network_xml(spec: &Spec) -> String {
    let hosts = spec.domains.values().map(|domain| NetworkHost {
        name: domain.name.clone(),
        mac: domain.mac,
        address: domain.address,
    });
    let definition = NetworkDefinition {
        name: spec.network.name.clone(),
        ownership: unmarked(spec),
        cidr: spec.network.cidr,
        gateway: spec.network.gateway,
        domain: spec.network.domain.clone(),
        hosts: hosts.collect(),
    };
    plain_network_xml(&definition)
}

/// Plain XML carries no mark; the field wants one.
fn unmarked(spec: &Spec) -> Ownership {
    Ownership {
        deployment: spec.name.clone(),
        digest: Digest::of(b""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pspd_model::topology::{self, Found};

    use super::*;

    /// A number with a unit, valid or not.
    fn with_unit(units: &'static [&'static str]) -> impl Strategy<Value = String> {
        let number = prop_oneof![
            (0..3000u32).prop_map(|number| number.to_string()),
            (0..200_000_000u64).prop_map(|number| number.to_string()),
            (0..5000u32, 0..1000u32).prop_map(|(whole, part)| format!("{whole}.{part:03}")),
        ];
        let unit = proptest::sample::select(units);
        (number, unit).prop_map(|(number, unit)| format!("{number} {unit}"))
    }

    const SIZES: &[&str] = &["KiB", "MiB", "GiB", "TiB", "KB", "MB", "GB", "TB"];

    proptest! {
        /// What is exported can be imported: the spec of an archive is read as it was.
        #[test]
        fn what_validation_accepts_is_exported_exactly(
            system in with_unit(SIZES),
            volume in with_unit(SIZES),
            memory in (0..4096u32, prop_oneof![Just("MiB"), Just("GiB")]),
            timeout in with_unit(&["s", "m", "min"]),
            vcpus in 0..300u32,
            arguments in proptest::collection::vec("[ -~é]{0,12}", 0..3),
            push in proptest::sample::select(vec!["auto", "ssh"]),
            tls_key_log: bool,
        ) {
            let image = Digest::of(b"image");
            let text = json!({
                "name": "demo",
                "images": {"debian": {"path": "image", "sha256": image}},
                "domains": {"web": {
                    "image": "debian",
                    "memory": format!("{} {}", memory.0, memory.1),
                    "vcpus": vcpus,
                    "disks": {"system": system, "data": {"size": volume, "mount": "/var/lib/web"}},
                    "boot_timeout": timeout,
                    "push": push,
                    "service": {"binary": "service", "port": 80, "health": "tcp", "arguments": arguments, "tls_key_log": tls_key_log},
                }},
            });
            let parse = |text: &Value| topology::parse(&text.to_string(), Path::new("/"), &|_| Found::File);
            let Ok(spec) = parse(&text) else {
                return Ok(());
            };
            let file = |name: &str| FileName::new(name).unwrap();
            let names = Names {
                images: BTreeMap::from([("debian".to_owned(), (file("image"), image))]),
                flattened: BTreeMap::new(),
                files: BTreeMap::from([(PathBuf::from("/service"), file("service"))]),
                roms: BTreeMap::new(),
            };
            let again = parse(&topology(&spec, &names)).map_err(|faults| format!("{faults:?}"));
            prop_assert_eq!(again, Ok(spec));
        }
    }
}
