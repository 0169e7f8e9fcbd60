//! The validated topology, with all defaults, addresses and MACs resolved: the input of planning.
//!
//! Owns the types and their invariants. [`crate::topology`] parses text to a [`Spec`].

mod host;
mod image;
mod service;
mod volume;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::publish::Publish;
pub use host::HostSpec;
pub use image::{Builtin, ImageSource, ImageSpec, Seed};
pub use service::{HealthCheck, KEY_LOG, Program, SSH_PORT, Secret, ServiceSpec};
pub use volume::{VolumeId, VolumeSpec};
pub use words::{Digest, InvalidDigest, InvalidName, Mac, Name, Size};

/// The current amount, and the maximum to which it can grow without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range<T> {
    pub current: T,
    pub maximum: T,
}

/// The libvirt connection of a deployment's domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// The deployment's own libvirtd in private namespaces.
    Lab,
    /// A libvirt connection URI, <https://libvirt.org/uri.html>.
    Uri(String),
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connection::Lab => f.write_str("lab"),
            Connection::Uri(uri) => f.write_str(uri),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM if a test shows that it can run the guest, else TCG.
    Auto,
    Kvm,
    Tcg,
}

/// The network of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The name in libvirt, which is the deployment's name.
    pub name: String,
    pub cidr: Ipv4Net,
    /// The host's address in the network: the first usable address. DNS and DHCP listen on it.
    pub gateway: Ipv4Addr,
    /// The DNS domain of the guests' names.
    pub domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    Seabios,
    /// Built by pspd, for [`Machine::Q35`].
    Coreboot(Payload),
    Uefi,
    Rom {
        path: PathBuf,
        sha256: Digest,
    },
}

/// The payload that coreboot starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    Seabios,
    /// The image's kernel and initramfs, stored in the ROM.
    Linux {
        /// Arguments appended to the image's kernel command line.
        cmdline: Option<String>,
    },
}

impl Firmware {
    /// The value in the topology file.
    pub fn word(&self) -> &'static str {
        match self {
            Firmware::Seabios => "seabios",
            Firmware::Coreboot(_) => "coreboot",
            Firmware::Uefi => "uefi",
            Firmware::Rom { .. } => "rom",
        }
    }

    /// Whether the ROM contains the kernel.
    pub fn holds_kernel(&self) -> bool {
        matches!(self, Firmware::Coreboot(Payload::Linux { .. }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// The image's boot loader.
    Disk,
    /// The image's kernel, loaded by the hypervisor.
    Kernel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// i440FX.
    Pc,
    Q35,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSpec {
    pub name: Name,
    /// A key of [`Spec::hosts`]: the machine that it is on. `None` for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Name>,
    /// A key of [`Spec::images`].
    pub image: String,
    pub firmware: Firmware,
    pub boot: Boot,
    pub machine: Machine,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// The virtual size of the system disk, which is an overlay on the image.
    pub system_disk: Size,
    /// Data volumes, which are kept when the system disk is rebuilt.
    pub volumes: Vec<VolumeSpec>,
    pub depends_on: BTreeSet<Name>,
    /// The domains whose services call this one's and are called by it, in no order. Each of two peers has the other.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub peers: BTreeSet<Name>,
    pub service: Option<ServiceSpec>,
    pub publish: Vec<Publish>,
    /// The deadline for the guest's first SSH answer; `None` for the default of the accelerator.
    pub boot_timeout: Option<Duration>,
    #[serde(default)]
    pub push: Push,
    pub address: Ipv4Addr,
    pub mac: Mac,
}

/// The way of a release's files to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Push {
    /// The release disk where the guest can read it, else SSH.
    #[default]
    Auto,
    /// SSH; the domain has no release disk.
    Ssh,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub name: Name,
    /// The machines that domains run on; this one if there is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<Name, HostSpec>,
    pub connection: Connection,
    pub accel: Accel,
    /// Whether it starts with its host.
    #[serde(default)]
    pub autostart: bool,
    pub network: NetworkSpec,
    /// The images that domains use.
    pub images: BTreeMap<String, ImageSpec>,
    pub domains: BTreeMap<Name, DomainSpec>,
    /// The domains of other hosts, which are in the same network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<Name, DomainSpec>,
}

impl Spec {
    /// What one of the hosts has to do.
    pub fn on(mut self, host: &Name) -> Spec {
        let is_own = |domain: &DomainSpec| domain.host.as_ref() == Some(host);
        let (own, others) = self
            .domains
            .into_iter()
            .partition(|(_, domain)| is_own(domain));
        self.domains = own;
        self.elsewhere = others;
        let used: BTreeSet<&String> = self.domains.values().map(|domain| &domain.image).collect();
        self.images.retain(|key, _| used.contains(key));
        if let Some(gateway) = self.hosts.get(host).and_then(|host| host.gateway) {
            self.network.gateway = gateway;
        }
        self.hosts = BTreeMap::new();
        self
    }

    /// Whether its domains are on several hosts.
    pub fn is_spread(&self) -> bool {
        self.hosts.len() > 1
    }

    /// The domains of all hosts.
    pub fn all(&self) -> impl Iterator<Item = &DomainSpec> {
        self.domains.values().chain(self.elsewhere.values())
    }

    /// A domain of any host.
    pub fn get(&self, name: &Name) -> Option<&DomainSpec> {
        self.domains.get(name).or_else(|| self.elsewhere.get(name))
    }

    /// A guest's name in the network's DNS.
    pub fn host_name(&self, domain: &Name) -> String {
        format!("{domain}.{}", self.network.domain)
    }

    /// The data volumes of all domains.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeId> {
        let domains = self.domains.values();
        domains.flat_map(|domain| domain.volumes.iter().map(|volume| volume.of(&domain.name)))
    }
}

impl DomainSpec {
    /// The names of its disks: the system disk, then the data volumes.
    pub fn disks(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().map(|volume| volume.name.as_str());
        std::iter::once(SYSTEM_DISK).chain(volumes)
    }

    /// Where its guest mounts one of its disks.
    pub fn mount_of(&self, disk: &Name) -> Option<PathBuf> {
        if disk.as_str() == SYSTEM_DISK {
            return Some("/".into());
        }
        let mut volumes = self.volumes.iter();
        let volume = volumes.find(|volume| volume.name == *disk)?;
        Some(volume.mount.clone())
    }
}

/// The name of a domain's system disk, which no data volume has; also its serial number in the guest.
pub const SYSTEM_DISK: &str = "system";

/// The serial number of the disk that carries releases to a guest, which no data volume has.
pub const RELEASE_DISK: &str = "pspd-release";
