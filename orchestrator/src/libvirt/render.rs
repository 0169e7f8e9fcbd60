//! Definitions to libvirt's XML. What is not in a definition is chosen here, with its reason.

use super::definition::{Disk, DomainDefinition, Interface, NetworkDefinition, NetworkHost};
use super::xml::Element;
use crate::accel::Accelerator;
use crate::spec::{Firmware, Machine, Size};

/// libvirt's word for what runs a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainType {
    Kvm,
    /// QEMU without KVM.
    Qemu,
    /// The driver of `test:///default`, which takes no other.
    Test,
}

impl From<Accelerator> for DomainType {
    fn from(accelerator: Accelerator) -> DomainType {
        match accelerator {
            Accelerator::Kvm => DomainType::Kvm,
            Accelerator::Tcg => DomainType::Qemu,
        }
    }
}

impl DomainDefinition {
    /// The XML that [`super::Connection::define_domain`] defines; any libvirt host with QEMU takes it.
    pub fn to_xml(&self) -> String {
        self.to_xml_as(self.accelerator.into())
    }

    pub(super) fn to_xml_as(&self, kind: DomainType) -> String {
        let (kind, cpu) = match kind {
            DomainType::Kvm => ("kvm", "host-passthrough"),
            // Everything that TCG emulates: the default model lacks what current distributions are built for.
            DomainType::Qemu => ("qemu", "maximum"),
            DomainType::Test => ("test", "maximum"),
        };
        Element::new("domain")
            .attribute("type", kind)
            .child(Element::text("name", &self.name))
            .child(Element::text("uuid", self.uuid()))
            .child(self.ownership.metadata())
            .child(memory("memory", self.memory.maximum))
            .child(memory("currentMemory", self.memory.current))
            .child(
                Element::text("vcpu", self.vcpus.maximum).attribute("current", self.vcpus.current),
            )
            .children(self.sysinfo())
            .child(self.os())
            // ACPI is the power button of a shutdown.
            .child(
                Element::new("features")
                    .child(Element::new("acpi"))
                    .child(Element::new("apic")),
            )
            .child(Element::new("cpu").attribute("mode", cpu))
            .child(Element::new("clock").attribute("offset", "utc"))
            .child(Element::text("on_poweroff", "destroy"))
            .child(Element::text("on_reboot", "restart"))
            .child(Element::text("on_crash", "destroy"))
            .child(self.devices())
            .to_xml()
    }

    fn sysinfo(&self) -> Vec<Element> {
        let strings = self
            .oem_strings
            .iter()
            .map(|string| Element::text("entry", string));
        let smbios = (!self.oem_strings.is_empty()).then(|| {
            Element::new("sysinfo")
                .attribute("type", "smbios")
                .child(Element::new("oemStrings").children(strings))
        });
        let files = self.fw_cfg.iter().map(|entry| {
            Element::new("entry")
                .attribute("name", &entry.name)
                .attribute("file", entry.file.display())
        });
        let fw_cfg = (!self.fw_cfg.is_empty()).then(|| {
            Element::new("sysinfo")
                .attribute("type", "fwcfg")
                .children(files)
        });
        [smbios, fw_cfg].into_iter().flatten().collect()
    }

    fn os(&self) -> Element {
        let machine = match self.machine {
            Machine::Pc => "pc",
            Machine::Q35 => "q35",
        };
        let os = match self.firmware {
            Firmware::Uefi => Element::new("os").attribute("firmware", "efi"),
            Firmware::Seabios | Firmware::Rom { .. } => Element::new("os"),
        };
        let smbios = Element::new("smbios").attribute("mode", "sysinfo");
        os.child(
            Element::text("type", "hvm")
                .attribute("arch", "x86_64")
                .attribute("machine", machine),
        )
        .children(self.loader())
        .children(self.direct_kernel())
        .children((!self.oem_strings.is_empty()).then_some(smbios))
    }

    fn loader(&self) -> Option<Element> {
        match &self.firmware {
            Firmware::Seabios => None,
            // Images are not signed for secure boot, which needs SMM besides.
            Firmware::Uefi => Some(
                Element::new("firmware").child(
                    Element::new("feature")
                        .attribute("enabled", "no")
                        .attribute("name", "secure-boot"),
                ),
            ),
            Firmware::Rom { path, .. } => Some(
                Element::path("loader", path)
                    .attribute("readonly", "yes")
                    .attribute("type", "rom"),
            ),
        }
    }

    fn direct_kernel(&self) -> Vec<Element> {
        let Some(boot) = &self.kernel else {
            return Vec::new();
        };
        let kernel = Element::path("kernel", &boot.kernel);
        let initrd = boot
            .initrd
            .as_deref()
            .map(|path| Element::path("initrd", path));
        let cmdline = Element::text("cmdline", &boot.cmdline);
        [Some(kernel), initrd, Some(cmdline)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn devices(&self) -> Element {
        let boots_from_disk = self.kernel.is_none();
        let disks = self.disks.iter().enumerate();
        Element::new("devices")
            .children(
                disks.map(|(index, disk)| block_device(index, disk, boots_from_disk && index == 0)),
            )
            // Nothing here uses USB, and probing it costs boot time.
            .child(
                Element::new("controller")
                    .attribute("type", "usb")
                    .attribute("model", "none"),
            )
            .children(self.interfaces.iter().map(interface))
            .children(self.serial_console())
            // Gives freed memory back to the host without being asked.
            .child(
                Element::new("memballoon")
                    .attribute("model", "virtio")
                    .attribute("freePageReporting", "on"),
            )
            .child(
                Element::new("rng")
                    .attribute("model", "virtio")
                    .child(Element::text("backend", "/dev/urandom").attribute("model", "random")),
            )
    }

    /// `ttyS0`: a pty for whoever opens the console, and a log of everything in any case.
    fn serial_console(&self) -> [Element; 2] {
        [
            Element::new("serial")
                .attribute("type", "pty")
                .child(
                    Element::new("log")
                        .attribute("file", self.serial_log.display())
                        .attribute("append", "on"),
                )
                .child(
                    Element::new("target")
                        .attribute("type", "isa-serial")
                        .attribute("port", 0),
                ),
            Element::new("console").attribute("type", "pty").child(
                Element::new("target")
                    .attribute("type", "serial")
                    .attribute("port", 0),
            ),
        ]
    }
}

fn memory(name: &'static str, size: Size) -> Element {
    Element::text(name, size.0.div_ceil(1024)).attribute("unit", "KiB")
}

fn block_device(index: usize, disk: &Disk, boots: bool) -> Element {
    // `writeback` keeps the host's page cache, which guests share for their common base image;
    // a guest's flush still reaches the medium.
    let driver = Element::new("driver")
        .attribute("name", "qemu")
        .attribute("type", disk.format.as_str())
        .attribute("cache", "writeback")
        .attribute("discard", "unmap")
        .attribute("detect_zeroes", "unmap");
    Element::new("disk")
        .attribute("type", "file")
        .attribute("device", "disk")
        .child(driver)
        .child(Element::new("source").attribute("file", disk.path.display()))
        .child(
            Element::new("target")
                .attribute("dev", target(index))
                .attribute("bus", "virtio"),
        )
        .children(disk.read_only.then(|| Element::new("readonly")))
        .child(Element::text("serial", &disk.serial))
        .children(boots.then(|| Element::new("boot").attribute("order", 1)))
}

/// `vda` to `vdz`, then `vdaa`, as the kernel counts.
fn target(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + (index % 26) as u8));
        if index < 26 {
            break;
        }
        index = index / 26 - 1;
    }
    letters
        .iter()
        .rev()
        .fold("vd".to_owned(), |mut name, letter| {
            name.push(*letter);
            name
        })
}

fn interface(interface: &Interface) -> Element {
    Element::new("interface")
        .attribute("type", "network")
        .child(Element::new("mac").attribute("address", interface.mac))
        .child(Element::new("source").attribute("network", &interface.network))
        .child(Element::new("model").attribute("type", "virtio"))
        // Its boot ROM would only delay the firmware: nothing boots from the network.
        .child(Element::new("rom").attribute("enabled", "no"))
}

impl NetworkDefinition {
    /// The XML that [`super::Connection::define_network`] defines.
    pub fn to_xml(&self) -> String {
        let dns_hosts = self.hosts.iter().map(|host| self.dns_host(host));
        let reservations = self.hosts.iter().map(NetworkHost::reservation);
        Element::new("network")
            .child(Element::text("name", &self.name))
            .child(Element::text("uuid", self.uuid()))
            .child(self.ownership.metadata())
            .child(Element::new("forward").attribute("mode", "nat"))
            // Without a name libvirt picks a free one. One bridge has no loops to look for.
            .child(
                Element::new("bridge")
                    .attribute("stp", "off")
                    .attribute("delay", 0),
            )
            .child(
                Element::new("domain")
                    .attribute("name", &self.domain)
                    .attribute("localOnly", "yes"),
            )
            // dnsmasq answers a name from DHCP only once there is a lease: so every guest is named here too.
            .child(
                Element::new("dns")
                    .attribute("forwardPlainNames", "no")
                    .child(self.ownership.txt_record())
                    .children(dns_hosts),
            )
            .child(
                Element::new("ip")
                    .attribute("address", self.gateway)
                    .attribute("netmask", self.cidr.netmask())
                    .child(Element::new("dhcp").children(reservations)),
            )
            .to_xml()
    }

    pub(super) fn dns_host(&self, host: &NetworkHost) -> Element {
        Element::new("host")
            .attribute("ip", host.address)
            .child(Element::text("hostname", &host.name))
            .child(Element::text(
                "hostname",
                format!("{}.{}", host.name, self.domain),
            ))
    }
}

impl NetworkHost {
    pub(super) fn reservation(&self) -> Element {
        Element::new("host")
            .attribute("mac", self.mac)
            .attribute("name", &self.name)
            .attribute("ip", self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{
        DiskFormat, DomainDescription, FwCfg, KernelBoot, NetworkDescription, Ownership,
    };
    use super::*;
    use crate::spec::{Digest, Mac, Name, Range};

    fn ownership() -> Ownership {
        Ownership {
            deployment: Name::new("reference").unwrap(),
            digest: Digest::of(b"spec"),
        }
    }

    fn domain() -> DomainDefinition {
        let disk = |path: &str, serial: &str| Disk {
            path: PathBuf::from(path),
            format: DiskFormat::Qcow2,
            serial: serial.to_owned(),
            read_only: false,
        };
        DomainDefinition {
            name: Name::new("ai-server").unwrap(),
            ownership: ownership(),
            accelerator: Accelerator::Tcg,
            machine: Machine::Pc,
            firmware: Firmware::Seabios,
            kernel: None,
            memory: Range {
                current: Size::mib(512),
                maximum: Size::gib(2),
            },
            vcpus: Range {
                current: 1,
                maximum: 2,
            },
            disks: vec![
                disk("/d/<system>.qcow2", "system"),
                disk("/d/data.qcow2", "data"),
            ],
            interfaces: vec![Interface {
                network: "reference".to_owned(),
                mac: Mac([0x52, 0x54, 0, 1, 2, 3]),
            }],
            oem_strings: vec!["a=<b>&c".to_owned()],
            fw_cfg: vec![FwCfg {
                name: "opt/pspd/key".to_owned(),
                file: PathBuf::from("/k/<key>"),
            }],
            serial_log: PathBuf::from("/d/serial.log"),
        }
    }

    fn network() -> NetworkDefinition {
        NetworkDefinition {
            name: "reference".to_owned(),
            ownership: ownership(),
            cidr: "10.77.0.0/24".parse().unwrap(),
            gateway: "10.77.0.1".parse().unwrap(),
            domain: "pspd.internal".to_owned(),
            hosts: vec![NetworkHost {
                name: Name::new("ai-server").unwrap(),
                mac: Mac([0x52, 0x54, 0, 1, 2, 3]),
                address: "10.77.0.11".parse().unwrap(),
            }],
        }
    }

    #[test]
    fn a_domain_that_boots_from_disk() {
        insta::assert_snapshot!(domain().to_xml(), @r#"
        <domain type="qemu">
          <name>ai-server</name>
          <uuid>b8931d6e-3adb-5efd-95d2-bf8f472d5bab</uuid>
          <metadata>
            <pspd:deployment xmlns:pspd="urn:pspd:ownership:1" name="reference" digest="d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
          </metadata>
          <memory unit="KiB">2097152</memory>
          <currentMemory unit="KiB">524288</currentMemory>
          <vcpu current="1">2</vcpu>
          <sysinfo type="smbios">
            <oemStrings>
              <entry>a=&lt;b&gt;&amp;c</entry>
            </oemStrings>
          </sysinfo>
          <sysinfo type="fwcfg">
            <entry name="opt/pspd/key" file="/k/&lt;key&gt;"/>
          </sysinfo>
          <os>
            <type arch="x86_64" machine="pc">hvm</type>
            <smbios mode="sysinfo"/>
          </os>
          <features>
            <acpi/>
            <apic/>
          </features>
          <cpu mode="maximum"/>
          <clock offset="utc"/>
          <on_poweroff>destroy</on_poweroff>
          <on_reboot>restart</on_reboot>
          <on_crash>destroy</on_crash>
          <devices>
            <disk type="file" device="disk">
              <driver name="qemu" type="qcow2" cache="writeback" discard="unmap" detect_zeroes="unmap"/>
              <source file="/d/&lt;system&gt;.qcow2"/>
              <target dev="vda" bus="virtio"/>
              <serial>system</serial>
              <boot order="1"/>
            </disk>
            <disk type="file" device="disk">
              <driver name="qemu" type="qcow2" cache="writeback" discard="unmap" detect_zeroes="unmap"/>
              <source file="/d/data.qcow2"/>
              <target dev="vdb" bus="virtio"/>
              <serial>data</serial>
            </disk>
            <controller type="usb" model="none"/>
            <interface type="network">
              <mac address="52:54:00:01:02:03"/>
              <source network="reference"/>
              <model type="virtio"/>
              <rom enabled="no"/>
            </interface>
            <serial type="pty">
              <log file="/d/serial.log" append="on"/>
              <target type="isa-serial" port="0"/>
            </serial>
            <console type="pty">
              <target type="serial" port="0"/>
            </console>
            <memballoon model="virtio" freePageReporting="on"/>
            <rng model="virtio">
              <backend model="random">/dev/urandom</backend>
            </rng>
          </devices>
        </domain>
        "#);
    }

    #[test]
    fn a_domain_of_rom_and_kernel() {
        let definition = DomainDefinition {
            accelerator: Accelerator::Kvm,
            machine: Machine::Q35,
            firmware: Firmware::Rom {
                path: PathBuf::from("/roms/q35.rom"),
                sha256: Digest::of(b"rom"),
            },
            kernel: Some(KernelBoot {
                kernel: PathBuf::from("/k/vmlinuz"),
                initrd: None,
                cmdline: "console=ttyS0 a=\"b\"".to_owned(),
            }),
            disks: Vec::new(),
            oem_strings: Vec::new(),
            fw_cfg: Vec::new(),
            ..domain()
        };
        let xml = definition.to_xml();
        let (head, _) = xml.split_once("<features>").unwrap();
        insta::assert_snapshot!(head, @r#"
        <domain type="kvm">
          <name>ai-server</name>
          <uuid>b8931d6e-3adb-5efd-95d2-bf8f472d5bab</uuid>
          <metadata>
            <pspd:deployment xmlns:pspd="urn:pspd:ownership:1" name="reference" digest="d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
          </metadata>
          <memory unit="KiB">2097152</memory>
          <currentMemory unit="KiB">524288</currentMemory>
          <vcpu current="1">2</vcpu>
          <os>
            <type arch="x86_64" machine="q35">hvm</type>
            <loader readonly="yes" type="rom">/roms/q35.rom</loader>
            <kernel>/k/vmlinuz</kernel>
            <cmdline>console=ttyS0 a=&quot;b&quot;</cmdline>
          </os>
        "#);
    }

    #[test]
    fn a_network() {
        insta::assert_snapshot!(network().to_xml(), @r#"
        <network>
          <name>reference</name>
          <uuid>ab315678-455f-51e7-8643-7642682741d6</uuid>
          <metadata>
            <pspd:deployment xmlns:pspd="urn:pspd:ownership:1" name="reference" digest="d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
          </metadata>
          <forward mode="nat"/>
          <bridge stp="off" delay="0"/>
          <domain name="pspd.internal" localOnly="yes"/>
          <dns forwardPlainNames="no">
            <txt name="pspd-ownership" value="reference/d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
            <host ip="10.77.0.11">
              <hostname>ai-server</hostname>
              <hostname>ai-server.pspd.internal</hostname>
            </host>
          </dns>
          <ip address="10.77.0.1" netmask="255.255.255.0">
            <dhcp>
              <host mac="52:54:00:01:02:03" name="ai-server" ip="10.77.0.11"/>
            </dhcp>
          </ip>
        </network>
        "#);
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let definition = domain();
        let described = DomainDescription::from_xml(&definition.to_xml()).unwrap();
        assert_eq!(described.uuid, definition.uuid());
        assert_eq!(described.ownership, Some(definition.ownership));
        assert_eq!(
            (described.memory, described.vcpus),
            (definition.memory, definition.vcpus)
        );
        let paths: Vec<_> = described
            .disks
            .into_iter()
            .filter_map(|disk| disk.path)
            .collect();
        assert_eq!(
            paths,
            definition
                .disks
                .into_iter()
                .map(|disk| disk.path)
                .collect::<Vec<_>>()
        );
        assert_eq!(described.serial_log, Some(definition.serial_log));

        let definition = network();
        let described = NetworkDescription::from_xml(&definition.to_xml()).unwrap();
        assert_eq!(described.hosts, definition.hosts);
        assert_eq!(described.ownership, Some(definition.ownership));
    }

    /// libvirt before 9.7 drops a network's metadata.
    #[test]
    fn a_network_without_metadata_is_still_owned() {
        let xml = network().to_xml();
        let (head, rest) = xml.split_once("<metadata>").unwrap();
        let (_, tail) = rest.split_once("</metadata>").unwrap();
        assert_eq!(Ownership::find(&format!("{head}{tail}")), Some(ownership()));
    }

    #[test]
    fn a_mark_of_another_namespace_or_place_is_none() {
        let xml = domain().to_xml();
        assert_eq!(
            Ownership::find(&xml.replace("urn:pspd:", "urn:other:")),
            None
        );
        assert_eq!(Ownership::find(&xml.replace("metadata>", "devices>")), None);
    }

    #[test]
    fn targets_count_as_the_kernel_does() {
        assert_eq!(
            [0, 25, 26, 701, 702].map(target),
            ["vda", "vdz", "vdaa", "vdzz", "vdaaa"]
        );
    }
}
