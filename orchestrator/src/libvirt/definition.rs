//! A domain as libvirt gets it: files and keys instead of names, complete enough that rendering chooses nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accel::Accelerator;
use crate::definition::{Interface, NetworkDefinition, Ownership};
use crate::image::DirectKernel;
use crate::spec::{Machine, Name, Range, Size};

/// A persistent domain, <https://libvirt.org/formatdomain.html>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    pub name: Name,
    pub ownership: Ownership,
    pub accelerator: Accelerator,
    pub machine: Machine,
    pub firmware: Loader,
    /// What the hypervisor starts directly; without it the firmware boots the first disk.
    pub kernel: Option<KernelBoot>,
    /// The guest gives back what is above `current` when its balloon driver loads.
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
    /// In the guest's order: `vda`, `vdb`.
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    /// SMBIOS type 11 strings, in order.
    pub oem_strings: Vec<String>,
    /// Files that the guest reads through QEMU's firmware configuration.
    pub fw_cfg: Vec<FwCfg>,
    /// What the guest writes to its first serial port; appended to.
    pub serial_log: PathBuf,
    /// What the firmware writes to QEMU's debugging port; begun anew at each start.
    pub firmware_log: PathBuf,
}

/// What runs before the kernel, as files and not as wishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loader {
    /// QEMU's own.
    Seabios,
    /// The host's UEFI firmware, with an NVRAM file that libvirt makes and removes.
    Uefi,
    Rom {
        path: PathBuf,
    },
}

/// A file of the host under a name of QEMU's firmware configuration, <https://www.qemu.org/docs/master/specs/fw_cfg.html>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwCfg {
    /// Begins with `opt/`.
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

/// A kernel on the host that the hypervisor loads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBoot {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
}

impl From<DirectKernel> for KernelBoot {
    fn from(direct: DirectKernel) -> KernelBoot {
        KernelBoot {
            kernel: direct.kernel,
            initrd: direct.initrd,
            cmdline: direct.cmdline,
        }
    }
}

/// A virtio-blk disk of a file on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub path: PathBuf,
    pub format: DiskFormat,
    /// By which the guest finds it; virtio-blk carries 20 bytes.
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
