//! The owner of an object: a mark in its `<metadata>`, or in a TXT record for networks of libvirt before 9.7.

use pspd_model::definition::Ownership;
use pspd_model::spec::{Digest, Name};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

use super::xml::Element;

const NAMESPACE: &str = "urn:pspd:ownership:1";
/// libvirt before 9.7 drops a network's `<metadata>`; all versions keep TXT records.
const TXT_NAME: &str = "pspd-ownership";

pub(super) fn metadata(ownership: &Ownership) -> Element {
    Element::new("metadata").child(
        Element::new("pspd:deployment")
            .attribute("xmlns:pspd", NAMESPACE)
            .attribute("name", &ownership.deployment)
            .attribute("digest", &ownership.digest),
    )
}

pub(super) fn txt_record(ownership: &Ownership) -> Element {
    Element::new("txt").attribute("name", TXT_NAME).attribute(
        "value",
        format!("{}/{}", ownership.deployment, ownership.digest),
    )
}

/// The mark in a domain's or network's XML. An unreadable mark counts as none: the object is foreign.
pub(super) fn find(xml: &str) -> Option<Ownership> {
    let mut reader = NsReader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let mut txt = None;
    loop {
        let (namespace, event) = reader.read_resolved_event().ok()?;
        match &event {
            Event::Eof => return txt,
            Event::End(_) => {
                path.pop();
            }
            Event::Start(element) | Event::Empty(element) => {
                let local = element.local_name().into_inner().to_owned();
                let ours = namespace == ResolveResult::Bound(Namespace(NAMESPACE));
                match path.as_slice() {
                    [_, metadata] if metadata == "metadata" && ours && local == "deployment" => {
                        return from_metadata(element);
                    }
                    [root, dns] if root == "network" && dns == "dns" && local == "txt" => {
                        txt = txt.or_else(|| from_txt(element));
                    }
                    _ => {}
                }
                if matches!(event, Event::Start(_)) {
                    path.push(local);
                }
            }
            _ => {}
        }
    }
}

fn from_metadata(element: &BytesStart) -> Option<Ownership> {
    parse(&attribute(element, "name")?, &attribute(element, "digest")?)
}

fn from_txt(element: &BytesStart) -> Option<Ownership> {
    if attribute(element, "name")? != TXT_NAME {
        return None;
    }
    let value = attribute(element, "value")?;
    let (deployment, digest) = value.split_once('/')?;
    parse(deployment, digest)
}

fn parse(deployment: &str, digest: &str) -> Option<Ownership> {
    Some(Ownership {
        deployment: Name::new(deployment).ok()?,
        digest: Digest::parse(digest).ok()?,
    })
}

fn attribute(element: &BytesStart, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(
        attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .ok()?
            .into_owned(),
    )
}
