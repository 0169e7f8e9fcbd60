//! How fast a domain's disks are.

use std::ffi::CString;

use pspd_model::harm::Throttle;
use virt_sys as sys;

use super::error::Attempt as _;
use super::{Domain, Result, ffi};

impl Domain {
    /// Limits how fast a disk of the running domain is, such as `vda`, until its process ends.
    pub fn throttle(&self, target: &str, limit: Throttle) -> Result<()> {
        let limits = [
            (
                sys::VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_BYTES_SEC,
                limit.bytes.map_or(0, |bytes| bytes.0),
            ),
            (
                sys::VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_IOPS_SEC,
                limit.iops.unwrap_or(0),
            ),
        ];
        // libvirt's own name of a disk has no NUL.
        let disk = CString::new(target).unwrap_or_default();
        ffi::throttle(self.raw(), &disk, limits)
            .attempt(|| format!("limit the disk `{target}` of domain `{}`", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use pspd_model::spec::Size;

    use crate::libvirt::DomainDescription;

    use super::*;

    /// What libvirt reports of a disk with this `<iotune>`.
    fn reported(iotune: &str) -> Throttle {
        let xml = format!(
            "<domain type='qemu'><name>web</name><uuid>a75aca4b-a02f-2bcb-4a91-c93cd848c34b</uuid>\
             <memory>1024</memory><vcpu>1</vcpu><os><type machine='pc'>hvm</type></os>\
             <devices><disk type='file'><target dev='vda'/>{iotune}</disk></devices></domain>"
        );
        DomainDescription::from_xml(&xml).unwrap().disks[0].throttle
    }

    #[test]
    fn the_limits_that_pspd_sets_are_read_back() {
        let limit = |bytes: Option<u64>, iops| Throttle {
            bytes: bytes.map(Size),
            iops,
        };
        for (iotune, expected) in [
            ("", limit(None, None)),
            ("<iotune></iotune>", limit(None, None)),
            (
                "<iotune><total_bytes_sec>0</total_bytes_sec><total_iops_sec>0</total_iops_sec></iotune>",
                limit(None, None),
            ),
            (
                "<iotune><total_bytes_sec>1048576</total_bytes_sec></iotune>",
                limit(Some(1 << 20), None),
            ),
            (
                "<iotune><total_iops_sec>50</total_iops_sec><total_bytes_sec>1000</total_bytes_sec></iotune>",
                limit(Some(1000), Some(50)),
            ),
            // Limits of a user, which pspd does not set.
            (
                "<iotune><read_bytes_sec>7</read_bytes_sec><total_iops_sec>9</total_iops_sec><group_name>a</group_name></iotune>",
                limit(None, Some(9)),
            ),
        ] {
            assert_eq!(reported(iotune), expected, "{iotune}");
        }
    }
}
