//! The validated topology, with all defaults, addresses and MACs resolved: the input of planning.
//!
//! Owns the types and their invariants. [`crate::topology`] parses text to a [`Spec`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::publish::Publish;

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

/// The error of [`Name::new`].
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
    /// Returns the digest of bytes in memory.
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

/// The error of [`Digest::parse`].
#[derive(Debug, thiserror::Error)]
#[error("a SHA-256 digest has 64 hexadecimal digits")]
pub struct InvalidDigest;

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Digest, InvalidDigest> {
        Digest::parse(&text)
    }
}

/// Finishes the hasher.
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
pub enum ImageSource {
    /// A recipe that pspd carries.
    Builtin(Builtin),
    /// The absolute path of a recipe's directory.
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

impl ImageSource {
    /// Whether pspd builds the image, by a recipe, and so knows what is in it.
    pub fn is_built(&self) -> bool {
        matches!(self, ImageSource::Builtin(_) | ImageSource::Recipe(_))
    }
}

/// A recipe that pspd carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// The folder `images/debian` of pspd's source.
    Debian,
}

impl Builtin {
    pub const ALL: [Builtin; 1] = [Builtin::Debian];

    pub fn name(self) -> &'static str {
        match self {
            Builtin::Debian => "debian",
        }
    }
}

/// How a guest of this image receives its name, address and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seed {
    /// systemd credentials in SMBIOS OEM strings, for pspd's own images.
    Credentials,
    /// A NoCloud volume for cloud-init, for stock cloud images.
    Nocloud,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    pub name: String,
    pub source: ImageSource,
    /// Additional packages that a recipe installs; empty for other sources.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    pub seed: Seed,
}

impl ImageSpec {
    /// The image of a recipe that pspd carries, without additional packages.
    pub fn builtin(builtin: Builtin) -> ImageSpec {
        ImageSpec {
            name: builtin.name().to_owned(),
            source: ImageSource::Builtin(builtin),
            packages: BTreeSet::new(),
            seed: Seed::Credentials,
        }
    }
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
pub struct VolumeSpec {
    /// Also the serial number that identifies the disk in the guest; at most 20 characters.
    pub name: Name,
    pub size: Size,
    /// The absolute mount point in the guest.
    pub mount: PathBuf,
}

/// The environment variable with the path of a service's TLS key log.
pub const KEY_LOG: &str = "SSLKEYLOGFILE";

/// A service in a domain, run as a systemd unit with the domain's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    #[serde(flatten)]
    pub program: Program,
    /// The TCP port in the guest.
    pub port: u16,
    pub health: HealthCheck,
    pub environment: BTreeMap<String, String>,
    /// Environment variables that only the service can read.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    pub arguments: Vec<String>,
    /// Arguments that make the program write the running service's data to its files; empty if not supported.
    #[serde(default)]
    pub checkpoint: Vec<String>,
    /// The deadline from its start to SERVING; `None` for the default of the health check and the accelerator.
    #[serde(default)]
    pub start_timeout: Option<Duration>,
    /// Whether it logs the keys of its TLS connections, with which a capture can be decrypted.
    #[serde(default)]
    pub tls_key_log: bool,
    /// Path in the release to a file or a folder of this host (absolute).
    pub files: BTreeMap<PathBuf, PathBuf>,
    /// Commands that prepare a release in the guest before it is started, each of one word at least.
    #[serde(default)]
    pub setup: Vec<Vec<String>>,
    /// The deadline of all of `setup`; `None` for the default of the accelerator.
    #[serde(default)]
    pub setup_timeout: Option<Duration>,
}

/// What a service runs, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// The absolute path of a static executable or script on this host.
    Binary(PathBuf),
    /// A program of the guest or of the release, and its first arguments; never empty.
    Command(Vec<String>),
}

impl Program {
    pub fn binary(&self) -> Option<&Path> {
        match self {
            Program::Binary(path) => Some(path),
            Program::Command(_) => None,
        }
    }
}

/// The health check of a service. Serialized as a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum HealthCheck {
    /// `grpc.health.v1` over mTLS must report SERVING for this service name.
    Grpc(String),
    /// The port must accept connections, for services without gRPC.
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

/// The source of a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// A random value, stored with the deployment's keys.
    Generate,
    /// The absolute path of a file on this host that contains the value in one line.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub name: Name,
    pub connection: Connection,
    pub accel: Accel,
    /// Whether it starts with its host.
    #[serde(default)]
    pub autostart: bool,
    pub network: NetworkSpec,
    /// The images that domains use.
    pub images: BTreeMap<String, ImageSpec>,
    pub domains: BTreeMap<Name, DomainSpec>,
}

impl Spec {
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

impl VolumeSpec {
    /// This volume of a domain.
    pub fn of(&self, domain: &Name) -> VolumeId {
        VolumeId {
            domain: domain.clone(),
            volume: self.name.clone(),
        }
    }
}

/// A data volume of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    pub domain: Name,
    pub volume: Name,
}

impl VolumeId {
    /// The file in the deployment's folder of volumes, and in an archive. A `.` is in no name, so no two volumes have the
    /// same file.
    pub fn file(&self) -> String {
        format!("{self}{QCOW2}")
    }

    /// The volume of a file; `None` if the file is named otherwise.
    pub fn of_file(file: &str) -> Option<VolumeId> {
        let (domain, volume) = file.strip_suffix(QCOW2)?.split_once('.')?;
        Some(VolumeId {
            domain: Name::new(domain).ok()?,
            volume: Name::new(volume).ok()?,
        })
    }

    /// The file of this volume in earlier versions, which other volumes could have, too.
    pub fn old_file(&self) -> String {
        format!("{}-{}{QCOW2}", self.domain, self.volume)
    }

    /// Every volume whose [`VolumeId::old_file`] has this name.
    pub fn of_old_file(file: &str) -> BTreeSet<VolumeId> {
        let stem = file.strip_suffix(QCOW2).unwrap_or_default();
        let split = |(at, _)| {
            Some(VolumeId {
                domain: Name::new(&stem[..at]).ok()?,
                volume: Name::new(&stem[at + 1..]).ok()?,
            })
        };
        stem.match_indices('-').filter_map(split).collect()
    }
}

const QCOW2: &str = ".qcow2";

/// The name of a domain's system disk, which no data volume has; also its serial number in the guest.
pub const SYSTEM_DISK: &str = "system";

/// The serial number of the disk that carries releases to a guest, which no data volume has.
pub const RELEASE_DISK: &str = "pspd-release";

/// `DOMAIN.VOLUME`.
impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.volume)
    }
}

impl Serialize for VolumeId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// Few letters and many dashes, so that names which are joined meet often.
        fn any_volume()(domain in "[ab]([ab-]{0,4}[ab])?", volume in "[ab]([ab-]{0,4}[ab])?") -> VolumeId {
            VolumeId { domain: Name::new(&domain).unwrap(), volume: Name::new(&volume).unwrap() }
        }
    }

    proptest! {
        #[test]
        fn a_file_is_of_one_volume(one in any_volume(), other in any_volume()) {
            prop_assert_eq!(one == other, one.file() == other.file());
            prop_assert_eq!(VolumeId::of_file(&one.file()), Some(one.clone()));
            prop_assert!(VolumeId::of_old_file(&one.old_file()).contains(&one));
            prop_assert_eq!(VolumeId::of_file(&one.old_file()), None);
        }
    }

    #[test]
    fn an_old_file_can_be_of_several_volumes() {
        let of = VolumeId::of_old_file("db-main-data.qcow2");
        let of: Vec<String> = of.iter().map(ToString::to_string).collect();
        assert_eq!(of, ["db.main-data", "db-main.data"]);
        assert!(VolumeId::of_old_file("db.data.qcow2").is_empty());
    }
}
