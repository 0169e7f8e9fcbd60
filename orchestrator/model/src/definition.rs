//! What pspd asks libvirt to define, as values that the planner decides.
//!
//! A plan is made before images are built and keys exist. Where the content is not known yet, a definition names it:
//! an image by its key, a ROM by its digest. Execution looks these up and chooses nothing; [`Accelerator`] and
//! [`DirectKernel`] are what it finds.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::spec::{Accel, Digest, Firmware, Mac, Machine, Name, Push, Range, Size};

/// The mark that pspd leaves in what it defines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    pub deployment: Name,
    /// Of what the object was made from; a difference is drift.
    pub digest: Digest,
}

/// A domain before its image, its ROM and its keys are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DomainDefinition {
    pub name: Name,
    pub ownership: Ownership,
    pub accel: Accel,
    pub machine: Machine,
    /// A key of the spec's images.
    pub image: String,
    pub firmware: Firmware,
    /// The digest of the ROM that pspd builds for it, where the firmware is one.
    pub rom: Option<Digest>,
    pub kernel: KernelSource,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// Data volumes in the guest's order, after the system disk.
    pub volumes: Vec<VolumeDisk>,
    /// Decides whether it has a release disk.
    pub push: Push,
    pub interface: Interface,
}

/// Who starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelSource {
    /// The boot loader on the disk, or the firmware that holds the kernel.
    Guest,
    /// The hypervisor, by the image's quickest entry: the uncompressed kernel (PVH) where the image has one.
    Hypervisor,
    /// The hypervisor, with a bzImage: firmware other than QEMU's SeaBIOS waits forever for a PVH kernel.
    HypervisorBzImage,
}

/// What runs a domain's virtual CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// A kernel on the host that the hypervisor loads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectKernel {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
}

/// A data volume as a disk of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeDisk {
    /// In the deployment's folder of volumes.
    pub file: String,
    /// By which the guest finds it.
    pub serial: String,
}

/// A virtio-net interface on a libvirt network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub network: String,
    pub mac: Mac,
}

/// A persistent NAT network, <https://libvirt.org/formatnetwork.html>; libvirt picks the bridge's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDefinition {
    pub name: String,
    pub ownership: Ownership,
    pub cidr: Ipv4Net,
    pub gateway: Ipv4Addr,
    /// The DNS domain, answered here only and never asked for upstream.
    pub domain: String,
    pub hosts: Vec<NetworkHost>,
}

/// A guest's DHCP reservation and its names, `NAME` and `NAME.domain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkHost {
    pub name: Name,
    pub mac: Mac,
    pub address: Ipv4Addr,
}

/// What a change of memory or virtual CPUs is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Affect {
    /// What the next start takes.
    Config,
    /// The running domain as well.
    Both,
}
