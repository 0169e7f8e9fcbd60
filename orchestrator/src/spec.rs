//! The validated topology: every default, address and MAC resolved; the one input of planning.
//!
//! Owns the types and their invariants. How text becomes a [`Spec`] is [`crate::topology`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A DNS label (RFC 1123): names of deployments, domains and volumes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Accepts 1 to 63 characters of `a-z`, `0-9` and `-`, with no `-` at either end.
    pub fn new(text: &str) -> Result<Name, InvalidName> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=63).contains(&text.len())
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid {
            Ok(Name(text.to_owned()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What [`Name::new`] refuses.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, with no - at either end")]
pub struct InvalidName(String);

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Name, InvalidName> {
        Name::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest::from(sha2::Sha256::new_with_prefix(bytes))
    }

    /// Accepts 64 hexadecimal digits, in either case.
    pub fn parse(text: &str) -> Result<Digest, InvalidDigest> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Digest(text.to_ascii_lowercase()))
        } else {
            Err(InvalidDigest)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// What [`Digest::parse`] refuses.
#[derive(Debug, thiserror::Error)]
#[error("a SHA-256 is 64 hexadecimal digits")]
pub struct InvalidDigest;

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Digest, InvalidDigest> {
        Digest::parse(&text)
    }
}

/// The digest of all that the hasher was given.
impl From<sha2::Sha256> for Digest {
    fn from(hasher: sha2::Sha256) -> Digest {
        use sha2::Digest as _;
        let hash = hasher.finalize();
        Digest(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    pub const fn mib(count: u64) -> Size {
        Size(count << 20)
    }

    pub const fn gib(count: u64) -> Size {
        Size(count << 30)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 >> shift > 0 {
                let value = self.0 as f64 / (1u64 << shift) as f64;
                return if value.fract() == 0.0 {
                    write!(f, "{value} {unit}")
                } else {
                    write!(f, "{value:.1} {unit}")
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What is there now, and how far it can grow without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range<T> {
    pub current: T,
    pub maximum: T,
}

/// Where domains live.
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
    /// KVM where it is proven to run the guest, else TCG.
    Auto,
    Kvm,
    Tcg,
}

/// The one network of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// libvirt's name of it: the deployment's name.
    pub name: String,
    pub cidr: Ipv4Net,
    /// The host's address in it: the first usable one. DNS and DHCP answer there.
    pub gateway: Ipv4Addr,
    /// The DNS domain of the guests' names.
    pub domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// A recipe's folder, absolute.
    Recipe(PathBuf),
    Path {
        path: PathBuf,
        sha256: Digest,
    },
    Url {
        url: String,
        sha256: Digest,
    },
}

/// How a guest made from the image learns its name, address and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seed {
    /// systemd credentials in SMBIOS OEM strings; what pspd's own images read.
    Credentials,
    /// A NoCloud volume for cloud-init; what stock cloud images read.
    Nocloud,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    pub name: String,
    pub source: ImageSource,
    /// What a recipe installs beside its own packages; no other source has any.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    pub seed: Seed,
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

/// What coreboot hands over to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    Seabios,
    /// The image's kernel and initramfs, in the ROM itself.
    Linux {
        /// Words that follow the image's own command line.
        cmdline: Option<String>,
    },
}

impl Firmware {
    /// The topology's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Firmware::Seabios => "seabios",
            Firmware::Coreboot(_) => "coreboot",
            Firmware::Uefi => "uefi",
            Firmware::Rom { .. } => "rom",
        }
    }

    /// Whether the kernel is a part of the firmware.
    pub fn holds_kernel(&self) -> bool {
        matches!(self, Firmware::Coreboot(Payload::Linux { .. }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// By the image's own boot loader.
    Disk,
    /// The image's kernel, started by the hypervisor.
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
    /// A key of [`Spec::images`].
    pub image: String,
    pub firmware: Firmware,
    pub boot: Boot,
    pub machine: Machine,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// Virtual size of the system disk, an overlay over the image.
    pub system_disk: Size,
    /// Data volumes, which outlive rebuilds of the system disk.
    pub volumes: Vec<VolumeSpec>,
    pub depends_on: BTreeSet<Name>,
    pub service: Option<ServiceSpec>,
    pub publish: Vec<Publish>,
    /// How long the guest may take to answer by SSH; a default that suits the accelerator without one.
    pub boot_timeout: Option<Duration>,
    pub address: Ipv4Addr,
    pub mac: Mac,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Also the disk's serial in the guest, by which it is found; at most 20 characters.
    pub name: Name,
    pub size: Size,
    /// Where the guest mounts it, absolute.
    pub mount: PathBuf,
}

/// A service that runs in a domain, as a systemd unit of the domain's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// A static executable or a script on this host, absolute.
    pub binary: PathBuf,
    /// Where it serves in the guest.
    pub port: u16,
    pub health: HealthCheck,
    pub environment: BTreeMap<String, String>,
    /// Environment variables that nobody but the service may read.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    pub arguments: Vec<String>,
    /// Arguments with which the executable, run beside the service, brings what it holds to its files; none without.
    #[serde(default)]
    pub checkpoint: Vec<String>,
    /// Guest path (absolute, or relative to the release) to host path (absolute).
    pub files: BTreeMap<PathBuf, PathBuf>,
}

/// By what a service is taken to be healthy; in files one word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum HealthCheck {
    /// `grpc.health.v1` says SERVING of this service name, over mTLS.
    Grpc(String),
    /// Its port takes connections: all that can be asked of a service that does not speak gRPC.
    Tcp,
}

impl HealthCheck {
    const TCP: &str = "tcp";
}

impl From<String> for HealthCheck {
    fn from(text: String) -> HealthCheck {
        match text.as_str() {
            HealthCheck::TCP => HealthCheck::Tcp,
            _ => HealthCheck::Grpc(text),
        }
    }
}

impl From<HealthCheck> for String {
    fn from(health: HealthCheck) -> String {
        match health {
            HealthCheck::Tcp => HealthCheck::TCP.to_owned(),
            HealthCheck::Grpc(name) => name,
        }
    }
}

/// Where a secret's value is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// Made at random, and kept with the deployment's keys.
    Generate,
    /// A file of this host, absolute, which holds it in one line.
    File(PathBuf),
}

/// A listening address of the host whose connections go to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Publish {
    pub host: SocketAddr,
    pub guest_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub name: Name,
    pub connection: Connection,
    pub accel: Accel,
    pub network: NetworkSpec,
    /// Only those that a domain uses.
    pub images: BTreeMap<String, ImageSpec>,
    pub domains: BTreeMap<Name, DomainSpec>,
}

impl Spec {
    /// A guest's name in the network's DNS.
    pub fn host_name(&self, domain: &Name) -> String {
        format!("{domain}.{}", self.network.domain)
    }
}

impl VolumeSpec {
    /// The file of this volume of a domain, in the deployment's folder of volumes.
    pub fn file(&self, domain: &Name) -> String {
        VolumeSpec::file_of(domain, &self.name)
    }

    /// The file of a domain's volume by their names.
    pub fn file_of(domain: &Name, volume: &Name) -> String {
        format!("{domain}-{volume}.qcow2")
    }
}
