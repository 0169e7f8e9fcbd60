//! A deployment without this host: its spec in topology.yaml's keys, and its XML as any libvirt host defines it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pspd_model::definition::{Accelerator, Interface, NetworkDefinition, NetworkHost, Ownership};
use pspd_model::publish::FrontTls;
use pspd_model::spec::{Digest, DomainSpec, Firmware, Name, Secret, Seed, Spec};
use serde_json::{Value, json};

use super::IMAGES;
use super::manifest::FileName;
use crate::libvirt::{Disk, DiskFormat, DomainConfig, FwCfg, Loader, plain_network_xml};
use crate::placement::Mapping;
use crate::placement::written::{Sources, seed};

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

/// The archive's files take the places of this host's.
impl Sources for Names {
    fn images(&self, spec: &Spec) -> Mapping {
        let shared = self
            .images
            .iter()
            .map(|(key, file)| (key.clone(), key, file));
        let flattened = self.flattened.iter().map(|(name, file)| {
            let image = &spec.domains[name].image;
            (name.to_string(), image, file)
        });
        let images = shared.chain(flattened);
        let images = images.map(|(key, of, (file, sha256))| {
            let of = spec
                .images
                .get(of)
                .map_or(Seed::Credentials, |image| image.seed);
            (
                key,
                json!({"path": file, "sha256": sha256, "seed": seed(of)}),
            )
        });
        images.collect()
    }

    fn image(&self, domain: &DomainSpec) -> String {
        match self.flattened.contains_key(&domain.name) {
            true => domain.name.to_string(),
            false => domain.image.clone(),
        }
    }

    /// The archive has the ROM that pspd built here; it is not built again elsewhere.
    fn rom(&self, domain: &DomainSpec) -> Value {
        match self.roms.get(&domain.name) {
            Some((file, sha256)) => json!({"rom": file, "sha256": sha256}),
            None => Value::Null,
        }
    }

    /// By the image's own boot loader: a kernel of the host stays there.
    fn boot(&self, _: &DomainSpec) -> Option<&'static str> {
        Some("disk")
    }

    fn file(&self, path: &Path) -> Value {
        json!(self.files.get(path))
    }

    /// Values are not part of it: the importer makes new ones, or has them in files of their own.
    fn secret(&self, _: &Secret) -> Value {
        json!("generate")
    }

    /// The importer's authority signs one: a private key of the user's stays on this host.
    fn tls(&self, _: &FrontTls) -> Value {
        json!("self-signed")
    }
}

/// The file of a domain's XML; a domain could be called `network`.
pub(super) fn xml_file(domain: &Name) -> String {
    match domain.as_str() {
        "network" => "network.domain.xml".to_owned(),
        name => format!("{name}.xml"),
    }
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
    use pspd_model::topology::{Found, parse as parse_topology};

    use super::*;
    use crate::placement::written::topology;

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
            let parse = |text: &Value| parse_topology(&text.to_string(), Path::new("/"), &|_| Found::File);
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
            let again = parse(&Value::Object(topology(&spec, &names))).map_err(|faults| format!("{faults:?}"));
            prop_assert_eq!(again, Ok(spec));
        }
    }
}
