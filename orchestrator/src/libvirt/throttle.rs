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
