//! What a host looks like, as values: the planner's input beside the spec and the intent.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::definition::Ownership;
use crate::fault::Cut;
use crate::harm::{Disturbance, Throttle};
use crate::shape::Route;
use crate::spec::{Digest, Mac, Name, Range, Size, VolumeId};

/// Everything that planning looks at beside the spec and the intent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    pub lab: LabState,
    pub keys: KeysState,
    pub network: Option<NetworkState>,
    /// The spec's domains, and any other that is defined for this deployment or has a system disk.
    pub domains: BTreeMap<Name, ObservedDomain>,
    /// Domains and networks of the connection that belong to somebody else: the domains, and the active networks.
    pub foreign: BTreeSet<String>,
    /// Virtual sizes of data volumes.
    pub volumes: BTreeMap<VolumeId, Size>,
    /// Data volumes whose files still have names of earlier versions, by file name.
    pub old_volumes: BTreeMap<String, OldVolume>,
    /// Snapshots of the whole deployment.
    pub snapshots: BTreeSet<Name>,
    /// The spec's images. Their digests are known before an image is built.
    pub images: BTreeMap<String, ImageState>,
    /// Whether a relay of a URI's published ports runs.
    pub relay: bool,
    /// Host address to guest address.
    pub published: BTreeMap<SocketAddr, SocketAddr>,
    /// The fronts, those too whose program does not run and which are not in `published`.
    pub fronts: BTreeMap<SocketAddr, FrontState>,
    /// The certificates that the spec's fronts should have, as far as they exist.
    pub front_certificates: BTreeMap<SocketAddr, Digest>,
    /// What the lab's bridge does not forward.
    pub cuts: BTreeSet<Cut>,
    /// The host's clock, in seconds since 1970.
    pub clock: u64,
}

impl Observed {
    pub fn domain(&self, name: &Name) -> Option<&ObservedDomain> {
        self.domains.get(name)
    }

    /// The size of a data volume that exists, under whichever name.
    pub fn volume(&self, id: &VolumeId) -> Option<Size> {
        let old = || {
            let mut old = self.old_volumes.values();
            Some(old.find(|old| old.owner() == Some(id))?.size)
        };
        self.volumes.get(id).copied().or_else(old)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabState {
    /// The connection is a URI.
    #[default]
    Unused,
    /// It has no files.
    Absent,
    /// Its files exist, and its supervisor does not run.
    Stopped,
    Running,
}

/// A data volume whose file is named as earlier versions did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OldVolume {
    /// Virtual.
    pub size: Size,
    /// The volumes that the file can be of. One, where the spec of the last `up` or the name alone says it.
    pub of: BTreeSet<VolumeId>,
}

impl OldVolume {
    /// The one volume that the file is of; `None` where that is not clear.
    pub fn owner(&self) -> Option<&VolumeId> {
        self.of.first().filter(|_| self.of.len() == 1)
    }
}

/// The deployment's keys and certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeysState {
    /// Files that are missing, relative to the folder of keys.
    pub missing: BTreeSet<String>,
    /// Certificates that exist and must be renewed: little of their time is left, or their names changed.
    pub expiring: BTreeSet<CertificateOwner>,
}

/// The file of the SSH key that guests accept, in the folder of keys.
pub const SSH_KEY: &str = "ssh";

/// The file of a guest's host key, in the folder of keys.
pub fn host_key_file(domain: &Name) -> String {
    format!("hosts/{domain}")
}

impl KeysState {
    /// Whether a key is lost that the domain's guest received at its start. The guest keeps the old one until it starts
    /// again.
    pub fn lacks_ssh_key_of(&self, domain: &Name) -> bool {
        self.missing.contains(SSH_KEY) || self.missing.contains(&host_key_file(domain))
    }
}

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateOwner {
    /// pspd's own, with which it calls services.
    Client,
    /// The service of this domain.
    Service(Name),
    /// The front that listens on this address of the host.
    Front(SocketAddr),
}

impl fmt::Display for CertificateOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateOwner::Client => f.write_str("client"),
            CertificateOwner::Service(name) => write!(f, "service/{name}"),
            CertificateOwner::Front(host) => write!(f, "front/{host}"),
        }
    }
}

/// What a running front answers with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrontState {
    pub hosts: BTreeSet<String>,
    /// Of its certificate and key in PEM; `None` without TLS.
    pub certificate: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkState {
    pub owner: Option<Ownership>,
    pub active: bool,
    /// Whether libvirt starts it with the host.
    pub autostart: bool,
    /// Whether its DNS and DHCP server answers. Not looked at to take a deployment down.
    pub dns: bool,
    /// Guests by name, with MAC and address.
    pub hosts: BTreeSet<(Name, Mac, Ipv4Addr)>,
}

/// One domain, from every side that pspd sees it from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObservedDomain {
    /// The deployment's definition of it in libvirt.
    pub defined: Option<Defined>,
    /// Whether libvirt's domain of this name belongs to somebody else. Only its power is read.
    pub foreign: bool,
    pub power: Power,
    /// The system disk.
    pub disk: Option<DiskState>,
    /// The files of the disks that its process has open, or that its saved state needs, by serial: `system`, or a data
    /// volume's name.
    pub attached: BTreeMap<String, Attached>,
    /// The memory that pspd saved of it; `None` where there is none.
    pub memory: Option<SavedMemory>,
    /// Whether its disks have overlays that an interrupted export left, or layers that an interrupted snapshot left.
    pub unmerged: bool,
    /// Whether its running network card has no carrier.
    pub link_down: bool,
    /// How pspd made the guest shape what it sends; `None` if it does not.
    pub shaping: Option<Shaping>,
    /// How fast the disks of its process are at most, by serial; those without a limit are missing.
    pub throttles: BTreeMap<String, Throttle>,
    /// What pspd made disturb the guest from within; `None` if nothing does.
    pub disturbed: Option<Disturbed>,
    /// Whether an interrupted `up` has not seen to its file systems.
    pub file_systems_due: bool,
    /// The ROM that pspd builds for it, where its firmware is one.
    pub rom: Option<CacheState>,
    /// What was deployed last; `None` where nothing was.
    pub deployed: Option<Deployed>,
    /// Its service; `None` where the spec has none for it.
    pub service: Option<ServiceState>,
}

/// The memory of a domain, in a file of the deployment, and the machine that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SavedMemory {
    /// The digest of its definition.
    pub definition: Digest,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    pub condition: MemoryCondition,
}

/// Whether saved memory can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryCondition {
    Usable,
    /// A disk was written or replaced since.
    OtherDisks,
    /// It is from another version of QEMU.
    OtherHypervisor,
    /// Its file is not the one that was written.
    Damaged,
}

impl MemoryCondition {
    /// Why the memory cannot be restored; `None` if it can.
    pub fn problem(self) -> Option<&'static str> {
        match self {
            MemoryCondition::Usable => None,
            MemoryCondition::OtherDisks => Some("its disks were written since"),
            MemoryCondition::OtherHypervisor => Some("it is from another version of QEMU"),
            MemoryCondition::Damaged => Some("its file is damaged"),
        }
    }
}

impl ObservedDomain {
    /// Whether a disk's file is not the one that the domain started with, or that its saved state needs.
    pub fn has_other_disks(&self) -> bool {
        self.attached.values().any(|now| *now != Attached::Same)
    }

    /// Whether files of it outlive its definition.
    pub fn has_files(&self) -> bool {
        self.disk.is_some() || self.memory.is_some()
    }
}

/// What libvirt's definition of a domain says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Defined {
    /// Of what it was made from.
    pub digest: Digest,
    /// Not so where the definition was removed while the domain runs: then nothing is left of it when it stops.
    pub persistent: bool,
    /// Whether libvirt starts it with the host.
    pub autostart: bool,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// What the running domain was started with; `None` where it does not run.
    pub live: Option<Live>,
}

/// What does not change while a domain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Live {
    pub maximum_memory: Size,
    pub vcpus: Range<u32>,
}

/// A domain's power, and why it is so where libvirt knows.
///
/// States and reasons: <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    #[default]
    Off,
    /// Its guest shut down, asked or by itself.
    ShutDown,
    Running,
    /// The virtual CPUs are stopped; the process and the memory stay.
    Paused(Pause),
    /// The guest suspended itself to memory.
    Suspended,
    /// Its memory is on the host's disk (managed save), and the next start restores it.
    Saved,
    Crashed(Crash),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pause {
    /// By a person or a program, pspd's own export among them.
    User,
    /// A disk of it reported an I/O error; the host's disk may be full.
    IoError,
    /// libvirt stopped it for a moment: a snapshot, a migration, its start.
    Libvirt,
    /// The hypervisor's process, by a signal. libvirt takes it for running, and waits for its answers.
    Process(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crash {
    /// The guest's kernel panicked; the process is kept.
    Guest,
    /// The hypervisor's process ended unexpectedly.
    Process,
}

impl Power {
    /// Whether a process holds the domain's memory and disks.
    pub fn has_process(self) -> bool {
        match self {
            Power::Running | Power::Paused(_) | Power::Suspended | Power::Crashed(Crash::Guest) => {
                true
            }
            Power::Off | Power::ShutDown | Power::Saved | Power::Crashed(Crash::Process) => false,
        }
    }

    /// `virsh list`'s word for it.
    pub fn word(self) -> &'static str {
        match self {
            Power::Off | Power::ShutDown | Power::Saved => "shut off",
            Power::Running => "running",
            Power::Paused(_) => "paused",
            Power::Suspended => "pmsuspended",
            Power::Crashed(_) => "crashed",
        }
    }

    /// What the word leaves out.
    pub fn detail(self) -> Option<Cow<'static, str>> {
        let text = match self {
            Power::Off | Power::Running | Power::Paused(Pause::User) => return None,
            Power::Paused(Pause::IoError) => {
                "paused because a disk could not be written: the host's disk is full. Free space, and run `pspd up`"
            }
            Power::Paused(Pause::Libvirt) => "paused by libvirt",
            Power::Paused(Pause::Process(pid)) => {
                return Some(Cow::Owned(format!(
                    "its process {pid} is stopped. Run `kill -CONT {pid}` to continue it"
                )));
            }
            Power::ShutDown => "the guest shut down",
            Power::Suspended => "the guest suspended itself to memory",
            Power::Saved => "its memory is saved; the next start restores it",
            Power::Crashed(Crash::Guest) => "the guest's kernel panicked",
            Power::Crashed(Crash::Process) => "the hypervisor's process ended unexpectedly",
        };
        Some(Cow::Borrowed(text))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskState {
    /// Virtual.
    pub size: Size,
    /// The digest of the image that it is an overlay of, where that is one of the cache.
    pub image: Option<Digest>,
    pub base: Base,
}

/// What is now at the path of a disk's file that a process opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attached {
    Same,
    /// Another file.
    Replaced,
    /// The same file with the content of another one, which was copied over it.
    Overwritten,
    Missing,
}

/// The file that a system disk is an overlay of. Its name changes with its content, so it is the right one or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    Present,
    Missing,
}

/// An image of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageState {
    pub digest: Digest,
    pub cached: bool,
    /// The virtual size of its disk, where it is known before the image is built or fetched.
    pub size: Option<Size>,
}

/// Something that the cache holds by the digest of what it is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheState {
    pub digest: Digest,
    pub cached: bool,
}

/// How a guest shapes what it sends, as pspd recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shaping {
    pub routes: Vec<Route>,
    /// Not so where an interrupted run may have left another state.
    pub complete: bool,
}

/// What disturbs a guest from within, as pspd recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disturbed {
    pub by: Disturbance,
    /// Not so where an interrupted run may have left another state.
    pub complete: bool,
}

/// A release that was activated and became healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    pub release: Digest,
    /// The certificate that was put into use last.
    #[serde(default)]
    pub certificate: Option<Digest>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceState {
    /// The release that should run. `None` where it has secrets that are still to be generated.
    pub release: Option<Digest>,
    /// The certificate that should be in use. `None` where it is still to be signed.
    pub certificate: Option<Digest>,
    /// Whether it answers SERVING.
    pub serving: bool,
}
