//! A domain as libvirt gets it: files and keys instead of names, complete enough that rendering chooses nothing.

use std::path::PathBuf;

use pspd_model::definition::{Accelerator, DirectKernel, Interface, NetworkDefinition, Ownership};
use pspd_model::spec::{Machine, Name, Range, Size};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A persistent domain, <https://libvirt.org/formatdomain.html>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    pub name: Name,
    pub ownership: Ownership,
    pub accelerator: Accelerator,
    pub machine: Machine,
    pub firmware: Loader,
    /// The kernel that the hypervisor loads; `None` if the firmware boots the first disk.
    pub kernel: Option<DirectKernel>,
    /// The guest returns memory above `current` when its balloon driver loads.
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// In the order of the guest: `vda`, `vdb`.
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    /// SMBIOS type 11 strings, in order.
    pub oem_strings: Vec<String>,
    /// Files that the guest reads through QEMU's firmware configuration.
    pub fw_cfg: Vec<FwCfg>,
    /// The log of the first serial port; appended to.
    pub serial_log: PathBuf,
    /// The log of QEMU's debug port, used by the firmware; overwritten at each start.
    pub firmware_log: PathBuf,
}

/// The firmware, with the path of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loader {
    /// QEMU's default firmware.
    Seabios,
    /// The host's UEFI firmware, with an NVRAM file that libvirt creates and removes.
    Uefi,
    Rom {
        path: PathBuf,
    },
}

/// A file on the host, with its name in QEMU's firmware configuration,
/// <https://www.qemu.org/docs/master/specs/fw_cfg.html>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwCfg {
    /// Starts with `opt/`.
    pub name: String,
    pub file: PathBuf,
}

impl FwCfg {
    /// A guest's private host key, which pspd's own images read before their SSH server starts.
    pub fn host_key(file: PathBuf) -> FwCfg {
        FwCfg {
            name: "opt/pspd/ssh_host_ed25519_key".to_owned(),
            file,
        }
    }
}

/// A virtio-blk disk that is a file on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub path: PathBuf,
    pub format: DiskFormat,
    /// The serial number by which the guest finds the disk; virtio-blk transfers 20 bytes.
    pub serial: String,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    Qcow2,
    Raw,
}

impl DiskFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }
}

/// Under which names of domains and networks become UUIDs.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_5c0e_3f0b_4a53_9d0a_7c6b_2f5d_e1a4);

impl DomainConfig {
    /// Of deployment and name alone, so that defining it again replaces the same domain.
    pub fn uuid(&self) -> Uuid {
        let name = format!("domain/{}/{}", self.ownership.deployment, self.name);
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }
}

/// Of deployment and name alone, so that defining the network again replaces the same one.
pub(super) fn network_uuid(definition: &NetworkDefinition) -> Uuid {
    let name = format!(
        "network/{}/{}",
        definition.ownership.deployment, definition.name
    );
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}
