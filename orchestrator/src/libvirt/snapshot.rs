//! Creates snapshots of a running domain's disks, and merges them.
//!
//! ```text
//! DISK            <-- written             (before)
//! DISK (frozen)   <-- DISK.snapshot       (snapshot: the domain writes to the overlay)
//! DISK            <-- written             (merged: the overlay was merged into the disk, the domain switched back)
//! ```
//! libvirt stores no metadata for them: the overlay's name identifies a snapshot.

use std::ffi::CString;
use std::thread::sleep;
use std::time::{Duration, Instant};

use virt_sys as sys;

use super::error::Attempt;
use super::xml::Element;
use super::{Domain, DomainDescription, Error, Result, ffi};
use crate::disk::{SNAPSHOT, is_overlay, overlay};

/// The polling interval of a merge; small merges complete before the first poll.
const POLL: Duration = Duration::from_millis(20);
/// The deadline of a merge; merging the writes of hours takes minutes.
const MERGE: Duration = Duration::from_secs(600);

impl Domain {
    /// Pauses its virtual CPUs; fails if it is not running.
    pub fn suspend(&self) -> Result<()> {
        let attempt = || format!("pause domain `{}`", self.name());
        self.raw().suspend().map(drop).attempt(attempt)
    }

    /// Resumes its virtual CPUs.
    pub fn resume(&self) -> Result<()> {
        let attempt = || format!("resume domain `{}`", self.name());
        self.raw().resume().map(drop).attempt(attempt)
    }

    /// Freezes all writable disks at the same time. Afterwards, the domain writes to an overlay next to each disk.
    pub fn snapshot(&self, description: &DomainDescription) -> Result<()> {
        let disks = description.disks.iter().map(|disk| {
            let path = disk.path.as_deref().filter(|_| !disk.read_only);
            let element = Element::new("disk").attribute("name", &disk.target);
            match path {
                None => element.attribute("snapshot", "no"),
                Some(path) => element
                    .attribute("snapshot", "external")
                    .attribute("type", "file")
                    .child(Element::new("driver").attribute("type", "qcow2"))
                    .child(Element::new("source").attribute("file", overlay(path).display())),
            }
        });
        let xml = Element::new("domainsnapshot")
            .child(Element::new("disks").children(disks))
            .to_xml();
        let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
        let attempt = || format!("freeze the disks of domain `{}`", self.name());
        self.raw()
            .create_snapshot_xml(&xml, flags)
            .map(drop)
            .attempt(attempt)
    }

    /// Merges the writes of a running domain since [`Domain::snapshot`] into its disks; continues an interrupted merge.
    /// Disks without an overlay are not changed. Calls `progress` for each disk.
    pub fn merge(&self, progress: impl Fn(u64, u64)) -> Result<()> {
        let Some(live) = self.live()? else {
            return Ok(());
        };
        for disk in live.disks {
            if disk.path.as_deref().is_some_and(is_overlay) {
                self.merge_disk(&disk.target, &progress)?;
            }
        }
        Ok(())
    }

    fn merge_disk(&self, target: &str, progress: &impl Fn(u64, u64)) -> Result<()> {
        let attempt = || {
            format!(
                "merge the snapshot of disk `{target}` of domain `{}`",
                self.name()
            )
        };
        let disk = CString::new(target).unwrap_or_default();
        if ffi::block_job(self.raw(), &disk)
            .attempt(attempt)?
            .is_none()
        {
            ffi::commit_active(self.raw(), &disk).attempt(attempt)?;
        }
        let began = Instant::now();
        while began.elapsed() < MERGE {
            let Some(job) = ffi::block_job(self.raw(), &disk).attempt(attempt)? else {
                break;
            };
            progress(job.done, job.total);
            if job.done == job.total {
                match ffi::pivot(self.raw(), &disk).attempt(attempt) {
                    // All data is copied, but QEMU is not ready to switch yet.
                    Err(error) if error.code() == Some(sys::VIR_ERR_BLOCK_COPY_ACTIVE) => {}
                    pivoted => return pivoted,
                }
            }
            sleep(POLL);
        }
        Err(Error::NotMerged {
            domain: self.name().to_owned(),
            disk: target.to_owned(),
            waited: began.elapsed(),
        })
    }

    /// Changes the definition of a domain that is off to use its disks instead of their overlays, which were merged.
    pub fn forget_overlays(&self) -> Result<()> {
        let attempt = || format!("define domain `{}` without snapshots", self.name());
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let mut xml = self.raw().xml_desc(flags).attempt(attempt)?;
        for quote in ["'", "\""] {
            xml = xml.replace(
                &format!(".qcow2.{SNAPSHOT}{quote}"),
                &format!(".qcow2{quote}"),
            );
        }
        let defined = self.connection().raw().define_domain_xml(&xml);
        defined.map(drop).attempt(attempt)
    }
}
