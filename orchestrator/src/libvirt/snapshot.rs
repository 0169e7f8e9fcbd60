//! Creates snapshots of a running domain's disks, and merges them.
//!
//! ```text
//! DISK            <-- written             (before)
//! DISK (frozen)   <-- DISK.snapshot       (snapshot: the domain writes to the overlay)
//! DISK            <-- written             (merged: the overlay was merged into the disk, the domain switched back)
//! ```
//! libvirt stores no metadata for them: the overlay's name identifies a snapshot.
//!
//! Snapshots of a deployment stay. Their overlays are layers, which exist before: see disk/layers.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use virt_sys as sys;

use super::error::Attempt;
use super::xml::Element;
use super::{DiskDescription, Domain, DomainDescription, Error, Result, ffi};
use crate::disk::{is_overlay, overlay};

/// The polling interval of a merge; small merges complete before the first poll.
const POLL: Duration = Duration::from_millis(20);
/// The deadline of a merge; merging the writes of hours takes minutes.
const MERGE: Duration = Duration::from_secs(600);

impl Domain {
    /// Freezes all writable disks at the same time. Afterwards, the domain writes to an overlay next to each disk.
    pub fn snapshot(&self, description: &DomainDescription) -> Result<()> {
        let xml = Element::new("domainsnapshot")
            .child(disks(description, |disk| {
                let path = disk.path.as_deref().filter(|_| !disk.read_only);
                path.map(overlay)
            }))
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

    /// Freezes all disks, which are then layers below the given ones by serial, and writes the memory to a file if one is
    /// given. The virtual CPUs of a paused domain stay paused.
    pub fn freeze(
        &self,
        description: &DomainDescription,
        layers: &BTreeMap<String, PathBuf>,
        memory: Option<&Path>,
    ) -> Result<()> {
        let mut xml = Element::new("domainsnapshot").child(disks(description, |disk| {
            layers.get(disk.serial.as_ref()?).cloned()
        }));
        let mut flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT;
        match memory {
            Some(file) => {
                let memory = Element::new("memory").attribute("snapshot", "external");
                xml = xml.child(memory.attribute("file", file.display()));
            }
            None => flags |= sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY,
        }
        let attempt = || format!("save a snapshot of domain `{}`", self.name());
        self.raw()
            .create_snapshot_xml(&xml.to_xml(), flags)
            .attempt(attempt)?;
        self.forget_backing()
    }

    /// Copies what the disk of a running domain has only from the layer below it into it. Its backing file is then the one
    /// below that layer, or none. Calls `progress`.
    pub fn absorb(&self, serial: &str, progress: impl Fn(u64, u64)) -> Result<()> {
        self.merge_layers(serial, progress, |disk, target, attempt| {
            // As libvirt numbers the files of a chain.
            let base = disk.backing.get(1).map(|index| numbered(disk, *index));
            ffi::pull(self.raw(), target, base.as_deref()).attempt(attempt)
        })
    }

    /// Merges the file that is `depth` below the disk of a running domain into the one below it, and leaves it out of the
    /// chain. Calls `progress`.
    pub fn commit(&self, serial: &str, depth: usize, progress: impl Fn(u64, u64)) -> Result<()> {
        self.merge_layers(serial, progress, |disk, target, attempt| {
            let file = |depth: usize| {
                let index = depth.checked_sub(1).and_then(|at| disk.backing.get(at));
                index.map(|index| numbered(disk, *index))
            };
            match (file(depth), file(depth + 1)) {
                (Some(top), Some(base)) => {
                    ffi::commit(self.raw(), target, &top, &base).attempt(attempt)
                }
                // The chain is another one by now.
                _ => Ok(()),
            }
        })
    }

    /// Starts a job for a disk, unless an interrupted run started one, and waits for its end.
    fn merge_layers(
        &self,
        serial: &str,
        progress: impl Fn(u64, u64),
        start: impl FnOnce(&DiskDescription, &CStr, &dyn Fn() -> String) -> Result<()>,
    ) -> Result<()> {
        let live = self.live()?;
        let disk = live.and_then(|live| {
            let mut disks = live.disks.into_iter();
            disks.find(|disk| disk.serial.as_deref() == Some(serial))
        });
        let Some(disk) = disk else {
            return Ok(());
        };
        let attempt = || {
            format!(
                "merge layers of disk `{serial}` of domain `{}`",
                self.name()
            )
        };
        let target = CString::new(disk.target.as_str()).unwrap_or_default();
        if ffi::block_job(self.raw(), &target)
            .attempt(attempt)?
            .is_none()
        {
            start(&disk, &target, &attempt)?;
        }
        let began = Instant::now();
        while let Some(job) = ffi::block_job(self.raw(), &target).attempt(attempt)? {
            progress(job.done, job.total);
            if began.elapsed() >= MERGE {
                return Err(Error::NotMerged {
                    domain: self.name().to_owned(),
                    disk: disk.target,
                    waited: began.elapsed(),
                });
            }
            sleep(POLL);
        }
        Ok(())
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
}

/// A file of a disk's chain, as libvirt numbers them.
fn numbered(disk: &DiskDescription, index: u32) -> CString {
    CString::new(format!("{}[{index}]", disk.target)).unwrap_or_default()
}

/// What becomes of each disk in a snapshot: an overlay, or nothing.
fn disks(
    description: &DomainDescription,
    overlay: impl Fn(&DiskDescription) -> Option<PathBuf>,
) -> Element {
    let disks = description.disks.iter().map(|disk| {
        let element = Element::new("disk").attribute("name", &disk.target);
        match overlay(disk) {
            None => element.attribute("snapshot", "no"),
            Some(path) => element
                .attribute("snapshot", "external")
                .attribute("type", "file")
                .child(Element::new("driver").attribute("type", "qcow2"))
                .child(Element::new("source").attribute("file", path.display())),
        }
    });
    Element::new("disks").children(disks)
}
