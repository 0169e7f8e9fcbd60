//! Machines and networks that are there only to see what a firmware boots from: transient, so that ending them removes
//! them. Each machine has one medium and nothing else to boot from.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use super::definition::{DiskFormat, DomainDefinition};
use super::error::Attempt;
use super::render::no_usb;
use super::xml::Element;
use super::{Connection, Domain, Network, Result};

/// What a machine has to boot from, and on which bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    VirtioBlk,
    VirtioScsi,
    Sata,
    Usb,
    CdRom,
    /// PXE: the address and the file's name by DHCP, the file by TFTP.
    Network,
}

/// A machine with one medium.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Without kernel, disks and interfaces: the medium is all that it has.
    pub machine: DomainDefinition,
    pub medium: Medium,
    /// The medium's file; the network's name for [`Medium::Network`].
    pub source: String,
}

/// A network that hands out one boot file by libvirt's own DHCP and TFTP, and leads nowhere.
#[derive(Clone, Debug)]
pub struct BootNetwork {
    pub name: String,
    /// The host's address, in a network of 24 bits whose addresses from .100 on are handed out.
    pub gateway: Ipv4Addr,
    /// The folder that TFTP serves; its user must be able to read it.
    pub tftp: PathBuf,
    /// The file's name there.
    pub file: String,
}

impl Medium {
    pub const ALL: [Medium; 6] = [
        Medium::VirtioBlk,
        Medium::VirtioScsi,
        Medium::Sata,
        Medium::Usb,
        Medium::CdRom,
        Medium::Network,
    ];

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Medium::VirtioBlk => "virtio-blk",
            Medium::VirtioScsi => "virtio-scsi",
            Medium::Sata => "SATA",
            Medium::Usb => "USB",
            Medium::CdRom => "CD-ROM",
            Medium::Network => "PXE",
        }
    }

    fn bus(self) -> &'static str {
        match self {
            Medium::VirtioBlk => "virtio",
            Medium::VirtioScsi => "scsi",
            Medium::Sata | Medium::CdRom => "sata",
            Medium::Usb => "usb",
            Medium::Network => "",
        }
    }
}

impl Connection {
    /// Starts it; [`Domain::destroy`] ends and removes it.
    pub fn start_probe(&self, probe: &Probe) -> Result<Domain> {
        let name = probe.machine.name.as_str();
        let domain = self
            .raw()
            .create_domain_xml(&probe.to_xml(), 0)
            .attempt(|| format!("start domain `{name}`"))?;
        Ok(Domain::new(domain, self.clone(), name))
    }

    /// Starts it; [`Network::destroy`] ends and removes it.
    pub fn start_boot_network(&self, network: &BootNetwork) -> Result<Network> {
        let started = self
            .raw()
            .create_network_xml(&network.to_xml())
            .attempt(|| format!("start network `{}`", network.name))?;
        Ok(Network::new(started, &network.name))
    }
}

impl Probe {
    fn to_xml(&self) -> String {
        let kind = self.machine.accelerator.into();
        self.machine.tree(kind, true, self.devices()).to_xml()
    }

    /// The devices of its medium.
    fn devices(&self) -> Vec<Element> {
        let controller = |kind, model| {
            Element::new("controller")
                .attribute("type", kind)
                .attribute("model", model)
        };
        match self.medium {
            Medium::Network => vec![no_usb(), self.interface()],
            Medium::Usb => vec![controller("usb", "qemu-xhci"), self.disk()],
            Medium::VirtioScsi => vec![no_usb(), controller("scsi", "virtio-scsi"), self.disk()],
            Medium::VirtioBlk | Medium::Sata | Medium::CdRom => vec![no_usb(), self.disk()],
        }
    }

    fn disk(&self) -> Element {
        let (device, target) = match self.medium {
            Medium::CdRom => ("cdrom", "sda"),
            Medium::VirtioBlk => ("disk", "vda"),
            _ => ("disk", "sda"),
        };
        Element::new("disk")
            .attribute("type", "file")
            .attribute("device", device)
            .child(
                Element::new("driver")
                    .attribute("name", "qemu")
                    .attribute("type", DiskFormat::Raw.as_str()),
            )
            .child(Element::new("source").attribute("file", &self.source))
            .child(
                Element::new("target")
                    .attribute("dev", target)
                    .attribute("bus", self.medium.bus()),
            )
            .child(boots())
    }

    /// With its boot ROM, which is what asks for an address.
    fn interface(&self) -> Element {
        Element::new("interface")
            .attribute("type", "network")
            .child(Element::new("source").attribute("network", &self.source))
            .child(Element::new("model").attribute("type", "virtio"))
            .child(boots())
    }
}

fn boots() -> Element {
    Element::new("boot").attribute("order", 1)
}

impl BootNetwork {
    fn to_xml(&self) -> String {
        let [a, b, c, _] = self.gateway.octets();
        let range = Element::new("range")
            .attribute("start", Ipv4Addr::new(a, b, c, 100))
            .attribute("end", Ipv4Addr::new(a, b, c, 199));
        Element::new("network")
            .child(Element::text("name", &self.name))
            .child(
                Element::new("bridge")
                    .attribute("stp", "off")
                    .attribute("delay", 0),
            )
            .child(
                Element::new("ip")
                    .attribute("address", self.gateway)
                    .attribute("netmask", "255.255.255.0")
                    .child(Element::new("tftp").attribute("root", self.tftp.display()))
                    .child(
                        Element::new("dhcp")
                            .child(range)
                            .child(Element::new("bootp").attribute("file", &self.file)),
                    ),
            )
            .to_xml()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::accel::Accelerator;
    use crate::libvirt::{Loader, Ownership};
    use crate::spec::{Digest, Machine, Name, Range, Size};

    fn probe_xml(medium: Medium) -> String {
        let log = Path::new("/d/log").to_owned();
        let machine = DomainDefinition {
            name: Name::new("probe").unwrap(),
            ownership: Ownership {
                deployment: Name::new("bench").unwrap(),
                digest: Digest::of(b"probe"),
            },
            accelerator: Accelerator::Tcg,
            machine: Machine::Q35,
            firmware: Loader::Seabios,
            kernel: None,
            memory: Range {
                current: Size::mib(512),
                maximum: Size::mib(512),
            },
            vcpus: Range {
                current: 1,
                maximum: 2,
            },
            disks: Vec::new(),
            interfaces: Vec::new(),
            oem_strings: Vec::new(),
            fw_cfg: Vec::new(),
            serial_log: log.clone(),
            firmware_log: log,
        };
        let source = "/m/<medium>".to_owned();
        let probe = Probe {
            machine,
            medium,
            source,
        };
        probe.to_xml()
    }

    #[test]
    fn the_medium_is_all_that_there_is_to_boot_from() {
        for (medium, device, target) in [
            (Medium::VirtioBlk, "disk", "dev=\"vda\" bus=\"virtio\""),
            (Medium::VirtioScsi, "disk", "dev=\"sda\" bus=\"scsi\""),
            (Medium::Sata, "disk", "dev=\"sda\" bus=\"sata\""),
            (Medium::Usb, "disk", "dev=\"sda\" bus=\"usb\""),
            (Medium::CdRom, "cdrom", "dev=\"sda\" bus=\"sata\""),
        ] {
            let xml = probe_xml(medium);
            assert!(
                xml.contains(&format!("device=\"{device}\"")) && xml.contains(target),
                "{xml}"
            );
            assert_eq!(xml.matches("<boot order").count(), 1, "{xml}");
            assert!(!xml.contains("<interface"), "{xml}");
            assert!(xml.contains("file=\"/m/&lt;medium&gt;\""), "{xml}");
        }
        let xml = probe_xml(Medium::Network);
        assert!(xml.contains("<boot order=\"1\"/>") && !xml.contains("<disk"));
        // Its boot ROM is what boots.
        assert!(!xml.contains("<rom "), "{xml}");
    }

    #[test]
    fn the_network_hands_out_its_file() {
        let network = BootNetwork {
            name: "boot-bios".into(),
            gateway: Ipv4Addr::new(10, 79, 1, 1),
            tftp: "/m/tftp".into(),
            file: "bios".into(),
        };
        insta::assert_snapshot!(network.to_xml(), @r#"
        <network>
          <name>boot-bios</name>
          <bridge stp="off" delay="0"/>
          <ip address="10.79.1.1" netmask="255.255.255.0">
            <tftp root="/m/tftp"/>
            <dhcp>
              <range start="10.79.1.100" end="10.79.1.199"/>
              <bootp file="bios"/>
            </dhcp>
          </ip>
        </network>
        "#);
    }
}
