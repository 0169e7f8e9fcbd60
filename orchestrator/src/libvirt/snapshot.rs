//! Creates snapshots of a running domain's disks, and merges them.
//!
//! ```text
//! DISK            <-- written             (before)
//! DISK (frozen)   <-- DISK.snapshot       (snapshot: the domain writes to the overlay)
//! DISK            <-- written             (merged: the overlay was merged into the disk, the domain switched back)
//! ```
//! libvirt stores no metadata for them: the overlay's name identifies a snapshot.

use std::ffi::CString;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};
use virt_sys as sys;

use super::error::Attempt;
use super::xml::Element;
use super::{Domain, DomainDescription, Error, Result, ffi};
use crate::disk::{is_overlay, overlay};

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
        let definition = self.raw().xml_desc(flags).attempt(attempt)?;
        let xml = without_overlays(&definition).map_err(|error| Error::Report {
            subject: format!("domain `{}`", self.name()),
            source: quick_xml::DeError::from(error).into(),
        })?;
        let defined = self.connection().raw().define_domain_xml(&xml);
        defined.map(drop).attempt(attempt)
    }
}

/// A domain's definition with the disks that its overlays were merged into in their place. All else stays as it is.
fn without_overlays(definition: &str) -> Result<String, quick_xml::Error> {
    let mut reader = Reader::from_str(definition);
    let mut writer = Writer::new(Vec::new());
    let mut within = Vec::new();
    loop {
        let event = match reader.read_event()? {
            Event::Eof => break,
            Event::Start(element) => {
                within.push(element.name().as_ref().to_owned());
                Event::Start(source_of_disk(&within, element)?)
            }
            Event::Empty(element) => {
                within.push(element.name().as_ref().to_owned());
                let element = source_of_disk(&within, element)?;
                within.pop();
                Event::Empty(element)
            }
            event => {
                if matches!(event, Event::End(_)) {
                    within.pop();
                }
                event
            }
        };
        writer.write_event(event)?;
    }
    Ok(String::from_utf8_lossy(&writer.into_inner()).into_owned())
}

/// Changes the file of an element that is a disk's source, if it is an overlay.
fn source_of_disk<'a>(
    within: &[String],
    element: BytesStart<'a>,
) -> Result<BytesStart<'a>, quick_xml::Error> {
    if within != ["domain", "devices", "disk", "source"] {
        return Ok(element);
    }
    let mut changed = element.to_owned();
    changed.clear_attributes();
    for attribute in element.attributes() {
        let attribute = attribute?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
        let file = Path::new(value.as_ref());
        if attribute.key.as_ref() == "file" && is_overlay(file) {
            let disk = file.with_extension("");
            changed.push_attribute(("file", disk.display().to_string().as_str()));
        } else {
            changed.push_attribute(attribute);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_lose_their_overlays() {
        let definition = "<domain type='kvm'>\n  <description>a.qcow2.snapshot'</description>\n  <devices>\n    \
            <disk type='file' device='disk'>\n      <source file='/a &amp; b/system.qcow2.snapshot' index='1'/>\n    </disk>\n    \
            <disk type='file'><source file=\"/d/data.qcow2.snapshot\"><seclabel model='dac'/></source></disk>\n    \
            <disk type='file'><source file='/d/seed.img'/></disk>\n    \
            <serial type='file'><source path='/d/x.qcow2.snapshot'/></serial>\n  </devices>\n</domain>";
        let expected = definition
            .replace(
                "'/a &amp; b/system.qcow2.snapshot' index='1'",
                "\"/a &amp; b/system.qcow2\" index=\"1\"",
            )
            .replace("data.qcow2.snapshot", "data.qcow2")
            .replace("'/d/seed.img'", "\"/d/seed.img\"");
        assert_eq!(without_overlays(definition).unwrap(), expected);
    }
}
