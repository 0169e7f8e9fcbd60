//! Which files a domain's disks are: changed in a definition, where all else stays as it is.

use std::path::{Path, PathBuf};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};
use virt_sys as sys;

use super::error::Attempt;
use super::{Domain, Error, Result};
use crate::disk::is_overlay;

impl Domain {
    /// Changes the definition of a domain that is off to use its disks instead of their overlays, which were merged.
    pub fn forget_overlays(&self) -> Result<()> {
        self.replace_disks(|file| is_overlay(file).then(|| file.with_extension("")))
    }

    /// Removes from the definition what lies below the disks' files. libvirt writes it there when a layer is added to a
    /// disk, by the names of that moment, and believes it at the next start; without it, libvirt looks into the files.
    pub(super) fn forget_backing(&self) -> Result<()> {
        let attempt = || format!("read the definition of domain `{}`", self.name());
        let flags = sys::VIR_DOMAIN_XML_INACTIVE;
        let definition = self.raw().xml_desc(flags).attempt(attempt)?;
        match definition.contains("<backingStore") {
            true => self.replace_disks(|_| None),
            false => Ok(()),
        }
    }

    /// Changes which files the disks are at the next start; `other` gives another file for those that change.
    pub fn replace_disks(&self, other: impl Fn(&Path) -> Option<PathBuf>) -> Result<()> {
        let attempt = || format!("define domain `{}` with other disks", self.name());
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let definition = self.raw().xml_desc(flags).attempt(attempt)?;
        let xml = replaced(&definition, other).map_err(|error| Error::Report {
            subject: format!("domain `{}`", self.name()),
            source: quick_xml::DeError::from(error).into(),
        })?;
        let defined = self.connection().raw().define_domain_xml(&xml);
        defined.map(drop).attempt(attempt)
    }
}

/// A definition in which the disks are other files. What lies below their files is left to libvirt, which looks.
pub(super) fn replaced(
    definition: &str,
    other: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<String, quick_xml::Error> {
    let mut reader = Reader::from_str(definition);
    let mut writer = Writer::new(Vec::new());
    let mut within = Vec::new();
    loop {
        let event = match reader.read_event()? {
            Event::Eof => break,
            Event::Start(element) => {
                within.push(element.name().as_ref().to_owned());
                if within == BACKING {
                    reader.read_to_end(element.name())?;
                    within.pop();
                    continue;
                }
                Event::Start(source_of_disk(&within, element, &other)?)
            }
            Event::Empty(element) => {
                within.push(element.name().as_ref().to_owned());
                let skipped = within == BACKING;
                let element = source_of_disk(&within, element, &other)?;
                within.pop();
                if skipped {
                    continue;
                }
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

const SOURCE: [&str; 4] = ["domain", "devices", "disk", "source"];
const BACKING: [&str; 4] = ["domain", "devices", "disk", "backingStore"];

/// Changes the file of an element that is a disk's source.
fn source_of_disk<'a>(
    within: &[String],
    element: BytesStart<'a>,
    other: &impl Fn(&Path) -> Option<PathBuf>,
) -> Result<BytesStart<'a>, quick_xml::Error> {
    if within != SOURCE {
        return Ok(element);
    }
    let mut changed = element.to_owned();
    changed.clear_attributes();
    for attribute in element.attributes() {
        let attribute = attribute?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
        let other = (attribute.key.as_ref() == "file")
            .then(|| other(Path::new(value.as_ref())))
            .flatten();
        match other {
            Some(file) => changed.push_attribute(("file", file.display().to_string().as_str())),
            None => changed.push_attribute(attribute),
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_disks_change() {
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
        let merged = |file: &Path| is_overlay(file).then(|| file.with_extension(""));
        assert_eq!(replaced(definition, merged).unwrap(), expected);
    }

    #[test]
    fn what_lies_below_a_disk_is_left_out() {
        let definition = "<domain><devices><disk><source file='/a'/><backingStore type='file' index='3'><format type='qcow2'/>\
            <source file='/b'/><backingStore/></backingStore><target dev='vda'/></disk><disk><backingStore/><source file='/c'/></disk></devices></domain>";
        let expected = "<domain><devices><disk><source file=\"/x\"/><target dev='vda'/></disk><disk><source file=\"/x\"/></disk></devices></domain>";
        let found = replaced(definition, |_| Some("/x".into())).unwrap();
        assert_eq!(found, expected);
    }
}
