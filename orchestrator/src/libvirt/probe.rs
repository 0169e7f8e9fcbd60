//! Transient machines and networks for testing which media a firmware can boot from. Stopping them also removes them.
//! Each machine has exactly one boot medium.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use super::definition::{DiskFormat, DomainConfig};
use super::error::Attempt;
use super::render::no_usb;
use super::xml::Element;
use super::{Connection, Domain, Network, Result};

/// A boot medium and its bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    VirtioBlk,
    VirtioScsi,
    Sata,
    Usb,
    CdRom,
    /// PXE: address and file name by DHCP, the file by TFTP.
    Network,
}

/// A machine with one boot medium.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Without kernel, disks and interfaces: the medium is all that it has.
    pub machine: DomainConfig,
    pub medium: Medium,
    /// The medium's file; the network's name for [`Medium::Network`].
    pub source: String,
}

/// An isolated network that serves one boot file with libvirt's DHCP and TFTP.
#[derive(Clone, Debug)]
pub struct BootNetwork {
    pub name: String,
    /// The host's address in a /24 network. Guests get addresses from .100 on.
    pub gateway: Ipv4Addr,
    /// The directory that TFTP serves; dnsmasq's user must be able to read it.
    pub tftp: PathBuf,
    /// The name of the boot file in that directory.
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

    /// The name for output.
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
    /// Starts a probe; [`Domain::destroy`] stops and removes it.
    pub fn start_probe(&self, probe: &Probe) -> Result<Domain> {
        let name = probe.machine.name.as_str();
        let domain = self
            .raw()
            .create_domain_xml(&probe.to_xml(), 0)
            .attempt(|| format!("start domain `{name}`"))?;
        Ok(Domain::new(domain, self.clone(), name))
    }

    /// Starts a boot network; [`Network::destroy`] stops and removes it.
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

    /// Returns the devices of the medium.
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

    /// Returns the interface. Its boot ROM is enabled, because it sends the DHCP request.
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
    use crate::libvirt::Loader;
    use pspd_model::definition::{Accelerator, Ownership};
    use pspd_model::spec::{Digest, Machine, Name, Range, Size};

    fn probe_xml(medium: Medium) -> String {
        let log = Path::new("/d/log").to_owned();
        let machine = DomainConfig {
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
    fn only_the_medium_is_bootable() {
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
        // The boot ROM must be enabled.
        assert!(!xml.contains("<rom "), "{xml}");
    }

    #[test]
    fn a_boot_network_serves_its_file() {
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
