//! Parses libvirt's XML of a domain or network to typed values. Elements that pspd does not use are ignored.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use pspd_model::definition::{Accelerator, NetworkHost, Ownership};
use pspd_model::harm::Throttle;
use pspd_model::spec::{Mac, Name, Range, Size};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Malformed;
use super::{Error, Result, ownership};

/// libvirt's description of a domain, either live or for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DomainDescription {
    pub name: String,
    pub uuid: Uuid,
    pub ownership: Option<Ownership>,
    /// `None` for hypervisors other than QEMU.
    pub accelerator: Option<Accelerator>,
    /// With a version if libvirt resolved it, such as `pc-i440fx-10.0`.
    pub machine: Option<String>,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    pub disks: Vec<DiskDescription>,
    pub interfaces: Vec<InterfaceDescription>,
    pub serial_log: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskDescription {
    /// Such as `vda`.
    pub target: String,
    /// `None` if the disk is not a file.
    pub path: Option<PathBuf>,
    pub format: Option<String>,
    pub serial: Option<String>,
    pub read_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub throttle: Throttle,
    /// libvirt's numbers of the files below it, from the top. Of running domains only.
    #[serde(skip_serializing_if = "is_default")]
    pub backing: Vec<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceDescription {
    /// `None` if the interface is not on a libvirt network.
    pub network: Option<String>,
    pub mac: Option<String>,
    /// Whether its card has no carrier.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub link_down: bool,
}

/// libvirt's description of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkDescription {
    pub name: String,
    pub uuid: Uuid,
    pub ownership: Option<Ownership>,
    pub bridge: Option<String>,
    pub domain: Option<String>,
    pub gateway: Option<Ipv4Addr>,
    /// DHCP reservations with a name, MAC and IPv4 address, as defined by pspd; others are ignored.
    pub hosts: Vec<NetworkHost>,
}

impl DomainDescription {
    pub fn from_xml(xml: &str) -> Result<DomainDescription> {
        DomainDescription::read(xml).map_err(|source| Error::Report {
            subject: "a domain".to_owned(),
            source,
        })
    }

    pub(super) fn read(xml: &str) -> Result<DomainDescription, Malformed> {
        let domain: raw::Domain = quick_xml::de::from_str(xml)?;
        let maximum = domain.memory.size()?;
        let current = match domain.current_memory {
            Some(memory) => memory.size()?,
            None => maximum,
        };
        let vcpus = Range {
            current: domain.vcpu.current.unwrap_or(domain.vcpu.count),
            maximum: domain.vcpu.count,
        };
        let devices = domain.devices;
        let serial_log = devices.serial.into_iter().find_map(|serial| serial.log);
        Ok(DomainDescription {
            name: domain.name,
            uuid: uuid(domain.uuid)?,
            ownership: ownership::find(xml),
            accelerator: match domain.kind.as_str() {
                "kvm" => Some(Accelerator::Kvm),
                "qemu" => Some(Accelerator::Tcg),
                _ => None,
            },
            machine: domain.os.kind.machine,
            memory: Range { current, maximum },
            vcpus,
            disks: devices.disk.into_iter().map(Into::into).collect(),
            interfaces: devices.interface.into_iter().map(Into::into).collect(),
            serial_log: serial_log.map(|log| log.file),
        })
    }
}

impl NetworkDescription {
    pub fn from_xml(xml: &str) -> Result<NetworkDescription> {
        NetworkDescription::read(xml).map_err(|source| Error::Report {
            subject: "a network".to_owned(),
            source,
        })
    }

    pub(super) fn read(xml: &str) -> Result<NetworkDescription, Malformed> {
        let network: raw::Network = quick_xml::de::from_str(xml)?;
        let ipv4 = network
            .ip
            .into_iter()
            .find(|ip| ip.family.as_deref() != Some("ipv6"));
        let gateway = ipv4
            .as_ref()
            .and_then(|ip| ip.address.as_deref()?.parse().ok());
        let reservations = ipv4.and_then(|ip| ip.dhcp).unwrap_or_default().host;
        Ok(NetworkDescription {
            name: network.name,
            uuid: uuid(network.uuid)?,
            ownership: ownership::find(xml),
            bridge: network.bridge.and_then(|bridge| bridge.name),
            domain: network.domain.and_then(|domain| domain.name),
            gateway,
            hosts: reservations
                .into_iter()
                .filter_map(raw::Host::reservation)
                .collect(),
        })
    }
}

fn uuid(text: String) -> Result<Uuid, Malformed> {
    Uuid::parse_str(&text).map_err(|_| Malformed::Value {
        what: "UUID",
        value: text,
    })
}

impl From<raw::Disk> for DiskDescription {
    fn from(disk: raw::Disk) -> DiskDescription {
        DiskDescription {
            target: disk.target.dev,
            path: disk.source.and_then(|source| source.file),
            format: disk.driver.and_then(|driver| driver.kind),
            serial: disk.serial,
            read_only: disk.readonly.is_some(),
            throttle: disk.iotune.unwrap_or_default().into(),
            backing: indexes(disk.backing.as_ref()),
        }
    }
}

fn indexes(mut backing: Option<&raw::BackingStore>) -> Vec<u32> {
    let mut indexes = Vec::new();
    while let Some(store) = backing {
        // The end of a chain has none.
        indexes.extend(store.index);
        backing = store.backing.as_deref();
    }
    indexes
}

impl From<raw::IoTune> for Throttle {
    fn from(tune: raw::IoTune) -> Throttle {
        // Zero is none.
        let limit = |value: Option<u64>| value.filter(|value| *value != 0);
        Throttle {
            bytes: limit(tune.total_bytes_sec).map(Size),
            iops: limit(tune.total_iops_sec),
        }
    }
}

impl From<raw::Interface> for InterfaceDescription {
    fn from(interface: raw::Interface) -> InterfaceDescription {
        InterfaceDescription {
            network: interface.source.and_then(|source| source.network),
            mac: interface.mac.map(|mac| mac.address),
            link_down: interface.link.is_some_and(|link| link.state == "down"),
        }
    }
}

impl raw::Memory {
    /// libvirt reports KiB; definitions written by users can have any of its units,
    /// <https://libvirt.org/formatdomain.html>.
    fn size(&self) -> Result<Size, Malformed> {
        let unit: u64 = match self.unit.as_deref().unwrap_or("KiB") {
            "b" | "bytes" => 1,
            "KB" => 1000,
            "k" | "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "M" | "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "G" | "GiB" => 1 << 30,
            "TB" => 1_000_000_000_000,
            "T" | "TiB" => 1 << 40,
            unit => {
                return Err(Malformed::Value {
                    what: "memory unit",
                    value: unit.to_owned(),
                });
            }
        };
        self.count
            .checked_mul(unit)
            .map(Size)
            .ok_or(Malformed::Value {
                what: "memory size",
                value: self.count.to_string(),
            })
    }
}

impl raw::Host {
    fn reservation(self) -> Option<NetworkHost> {
        Some(NetworkHost {
            name: Name::new(self.name.as_deref()?).ok()?,
            mac: mac(self.mac.as_deref()?)?,
            address: self.ip?.parse().ok()?,
        })
    }
}

fn mac(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}

/// The elements of libvirt's XML that pspd reads.
mod raw {
    use super::{Deserialize, PathBuf};

    #[derive(Deserialize)]
    pub(super) struct Domain {
        #[serde(rename = "@type")]
        pub kind: String,
        pub name: String,
        pub uuid: String,
        pub memory: Memory,
        #[serde(rename = "currentMemory")]
        pub current_memory: Option<Memory>,
        pub vcpu: Vcpu,
        pub os: Os,
        #[serde(default)]
        pub devices: Devices,
    }

    #[derive(Deserialize)]
    pub(super) struct Memory {
        #[serde(rename = "@unit")]
        pub unit: Option<String>,
        #[serde(rename = "$text")]
        pub count: u64,
    }

    #[derive(Deserialize)]
    pub(super) struct Vcpu {
        #[serde(rename = "@current")]
        pub current: Option<u32>,
        #[serde(rename = "$text")]
        pub count: u32,
    }

    #[derive(Deserialize)]
    pub(super) struct Os {
        #[serde(rename = "type")]
        pub kind: OsType,
    }

    #[derive(Deserialize)]
    pub(super) struct OsType {
        #[serde(rename = "@machine")]
        pub machine: Option<String>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    pub(super) struct Devices {
        pub disk: Vec<Disk>,
        pub interface: Vec<Interface>,
        pub serial: Vec<Serial>,
    }

    #[derive(Deserialize)]
    pub(super) struct Disk {
        pub driver: Option<Driver>,
        pub source: Option<DiskSource>,
        pub target: Target,
        pub serial: Option<String>,
        pub readonly: Option<Empty>,
        pub iotune: Option<IoTune>,
        #[serde(rename = "backingStore")]
        pub backing: Option<BackingStore>,
    }

    #[derive(Deserialize)]
    pub(super) struct BackingStore {
        #[serde(rename = "@index")]
        pub index: Option<u32>,
        #[serde(rename = "backingStore")]
        pub backing: Option<Box<BackingStore>>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct IoTune {
        pub total_bytes_sec: Option<u64>,
        pub total_iops_sec: Option<u64>,
    }

    #[derive(Deserialize)]
    pub(super) struct Driver {
        #[serde(rename = "@type")]
        pub kind: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct DiskSource {
        #[serde(rename = "@file")]
        pub file: Option<PathBuf>,
    }

    #[derive(Deserialize)]
    pub(super) struct Target {
        #[serde(rename = "@dev")]
        pub dev: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Empty {}

    #[derive(Deserialize)]
    pub(super) struct Interface {
        pub mac: Option<MacAddress>,
        pub source: Option<InterfaceSource>,
        pub link: Option<LinkState>,
    }

    #[derive(Deserialize)]
    pub(super) struct LinkState {
        #[serde(rename = "@state")]
        pub state: String,
    }

    #[derive(Deserialize)]
    pub(super) struct MacAddress {
        #[serde(rename = "@address")]
        pub address: String,
    }

    #[derive(Deserialize)]
    pub(super) struct InterfaceSource {
        #[serde(rename = "@network")]
        pub network: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct Serial {
        pub log: Option<Log>,
    }

    #[derive(Deserialize)]
    pub(super) struct Log {
        #[serde(rename = "@file")]
        pub file: PathBuf,
    }

    #[derive(Deserialize)]
    pub(super) struct Network {
        pub name: String,
        pub uuid: String,
        pub bridge: Option<Named>,
        pub domain: Option<Named>,
        #[serde(default)]
        pub ip: Vec<Ip>,
    }

    #[derive(Deserialize)]
    pub(super) struct Named {
        #[serde(rename = "@name")]
        pub name: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct Ip {
        #[serde(rename = "@family")]
        pub family: Option<String>,
        #[serde(rename = "@address")]
        pub address: Option<String>,
        pub dhcp: Option<Dhcp>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct Dhcp {
        #[serde(default)]
        pub host: Vec<Host>,
    }

    #[derive(Deserialize)]
    pub(super) struct Host {
        #[serde(rename = "@mac")]
        pub mac: Option<String>,
        #[serde(rename = "@name")]
        pub name: Option<String>,
        #[serde(rename = "@ip")]
        pub ip: Option<String>,
    }
}
