//! Host to [`Observed`]: what libvirt, the disk and the guests report, as plain data. Changes nothing, but for
//! the deployment's keys, which are made when they are first looked at.

mod disks;
mod host;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::libvirt::Ownership;
use crate::spec::{Digest, Mac, Name, Range, Size};

pub use host::{Host, healths, images_in_use, observe, roms_in_use};
pub use routes::routed_networks;

/// Everything that planning looks at beside the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub lab: LabState,
    pub network: Option<NetworkState>,
    /// By libvirt's name: those of this deployment, and any that has the name of one of the spec's.
    pub domains: BTreeMap<String, DomainState>,
    /// Other domains and networks of the connection that run.
    pub strangers: BTreeSet<String>,
    /// System disks, by the domain's name.
    pub disks: BTreeMap<String, DiskState>,
    /// Domains whose disks have overlays that an interrupted export left.
    pub snapshots: BTreeSet<Name>,
    /// Domains of the deployment whose virtual CPUs are stopped.
    pub paused: BTreeSet<Name>,
    /// Virtual sizes of data volumes, by file name.
    pub volumes: BTreeMap<String, Size>,
    /// The digests of the spec's images, which are known before an image is built, and whether it is cached.
    pub images: BTreeMap<String, ImageState>,
    /// The ROMs that pspd builds itself, by the domain whose firmware they are.
    pub roms: BTreeMap<Name, ImageState>,
    /// Whether a relay of a URI's published ports runs.
    pub relay: bool,
    /// Host address to guest address.
    pub published: BTreeMap<SocketAddr, SocketAddr>,
    /// The release that each service should run.
    pub releases: BTreeMap<Name, Digest>,
    /// The release that was activated last.
    pub deployed: BTreeMap<Name, Digest>,
    /// The certificate that each service should have.
    pub certificates: BTreeMap<Name, Digest>,
    /// The certificate that was put into use last.
    pub certified: BTreeMap<Name, Digest>,
    /// Services that answered SERVING.
    pub serving: BTreeSet<Name>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabState {
    /// The connection is a URI.
    #[default]
    Unused,
    /// No file of it is there.
    Absent,
    /// Its files are there and its supervisor is not.
    Stopped,
    Running,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkState {
    pub owner: Option<Ownership>,
    pub active: bool,
    /// Guests by name, with MAC and address.
    pub hosts: BTreeSet<(Name, Mac, Ipv4Addr)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainState {
    pub owner: Option<Ownership>,
    pub running: bool,
    /// What the definition says.
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// Virtual.
    pub size: Size,
    /// The digest of the image that it is an overlay of, where that is in the cache.
    pub image: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageState {
    pub digest: Digest,
    pub cached: bool,
}
