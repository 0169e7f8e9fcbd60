//! Renders definitions to libvirt's XML. Settings that are not in a definition are chosen here, each with a reason.

use pspd_model::definition::{Accelerator, Interface, NetworkDefinition, NetworkHost};
use pspd_model::spec::{Machine, Size};

use super::definition::{Disk, DomainConfig, Loader, network_uuid};
use super::ownership;
use super::xml::Element;

/// The range of usable slots on q35's root bus: the host bridge is before it; devices of libvirt and q35 are after it.
const FIRST_SLOT: u32 = 2;
const LAST_SLOT: u32 = 0x1b;

/// libvirt's domain type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DomainType {
    Kvm,
    /// QEMU without KVM.
    Qemu,
    /// The type that the driver of `test:///default` requires.
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

impl DomainConfig {
    /// The XML that [`super::Connection::define_domain`] defines; any libvirt host with QEMU takes it.
    pub fn to_xml(&self) -> String {
        self.to_xml_as(self.accelerator.into())
    }

    /// Returns the XML for use without pspd: without ownership mark, UUID and console log.
    pub fn to_plain_xml(&self) -> String {
        self.render(self.accelerator.into(), false)
    }

    pub(super) fn to_xml_as(&self, kind: DomainType) -> String {
        self.render(kind, true)
    }

    fn render(&self, kind: DomainType, owned: bool) -> String {
        self.tree(kind, owned, vec![no_usb()]).to_xml()
    }

    /// Returns the element tree. `others` are devices that are not in the definition.
    pub(super) fn tree(&self, kind: DomainType, owned: bool, others: Vec<Element>) -> Element {
        let (kind, cpu) = match kind {
            DomainType::Kvm => ("kvm", "host-passthrough"),
            // All features that TCG emulates: the default model lacks some that current distributions require.
            DomainType::Qemu => ("qemu", "maximum"),
            DomainType::Test => ("test", "maximum"),
        };
        Element::new("domain")
            .attribute("type", kind)
            .child(Element::text("name", &self.name))
            .children(owned.then(|| Element::text("uuid", self.uuid())))
            .children(owned.then(|| ownership::metadata(&self.ownership)))
            // libvirt renews it at each restore, and the guest's kernel then draws new random numbers.
            .child(Element::new("genid"))
            .child(memory("memory", self.memory.maximum))
            .child(memory("currentMemory", self.memory.current))
            .child(
                Element::text("vcpu", self.vcpus.maximum).attribute("current", self.vcpus.current),
            )
            .children(self.sysinfo())
            .child(self.os())
            // ACPI provides the power button for a shutdown.
            .child(
                Element::new("features")
                    .child(Element::new("acpi"))
                    .child(Element::new("apic")),
            )
            .child(Element::new("cpu").attribute("mode", cpu))
            .child(Element::new("clock").attribute("offset", "utc"))
            .child(Element::text("on_poweroff", "destroy"))
            .child(Element::text("on_reboot", "restart"))
            // The state stays visible, with the memory of the kernel that panicked.
            .child(Element::text("on_crash", "preserve"))
            .child(self.devices(owned, others))
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
            Loader::Uefi => Element::new("os").attribute("firmware", "efi"),
            Loader::Seabios | Loader::Rom { .. } => Element::new("os"),
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
            Loader::Seabios => None,
            // Images are not signed for secure boot, which also needs SMM.
            Loader::Uefi => Some(
                Element::new("firmware").child(
                    Element::new("feature")
                        .attribute("enabled", "no")
                        .attribute("name", "secure-boot"),
                ),
            ),
            Loader::Rom { path } => Some(
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

    fn devices(&self, logged: bool, others: Vec<Element>) -> Element {
        let boots_from_disk = self.kernel.is_none();
        let mut slots = FIRST_SLOT..LAST_SLOT;
        let mut placed = |device: Element| match self.machine {
            Machine::Pc => device,
            Machine::Q35 => device.children(slots.next().map(on_root_bus)),
        };
        let disks = self.disks.iter().enumerate();
        let disks = disks
            .map(|(index, disk)| placed(block_device(index, disk, boots_from_disk && index == 0)));
        let devices = Element::new("devices").children(disks).children(others);
        let interfaces = self.interfaces.iter().map(|nic| placed(interface(nic)));
        let devices = devices
            .children(interfaces)
            .children(self.serial_console(logged))
            .children(logged.then(|| self.debug_console()));
        // Returns freed memory to the host automatically.
        let balloon = Element::new("memballoon")
            .attribute("model", "virtio")
            .attribute("freePageReporting", "on");
        let random = Element::new("rng")
            .attribute("model", "virtio")
            .child(Element::text("backend", "/dev/urandom").attribute("model", "random"));
        // By this the guest's kernel reports that it panicked.
        let panic = Element::new("panic").attribute("model", "isa");
        devices
            .child(placed(balloon))
            .child(placed(random))
            .child(panic)
    }

    /// Returns `ttyS0`: a pty, plus a log file if `logged`.
    fn serial_console(&self, logged: bool) -> [Element; 2] {
        let log = logged.then(|| {
            Element::new("log")
                .attribute("file", self.serial_log.display())
                .attribute("append", "on")
        });
        [
            Element::new("serial")
                .attribute("type", "pty")
                .children(log)
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

impl DomainConfig {
    /// The port 0x402 that SeaBIOS, coreboot and debugging builds of UEFI write to.
    fn debug_console(&self) -> Element {
        Element::new("serial")
            .attribute("type", "file")
            .child(
                Element::new("source")
                    .attribute("path", self.firmware_log.display())
                    .attribute("append", "off"),
            )
            .child(
                Element::new("target")
                    .attribute("type", "isa-debug")
                    .attribute("port", 1)
                    .child(Element::new("model").attribute("name", "isa-debugcon")),
            )
            .child(
                Element::new("address")
                    .attribute("type", "isa")
                    .attribute("iobase", "0x402"),
            )
    }
}

/// Puts a device on q35's root bus. By default, libvirt gives each device a hot-plug port, which firmware and kernel
/// set up at every boot; pspd does not hot-plug devices.
fn on_root_bus(slot: u32) -> Element {
    Element::new("address")
        .attribute("type", "pci")
        .attribute("bus", "0x00")
        .attribute("slot", format_args!("{slot:#04x}"))
}

/// Disables USB: no machine of a topology uses it, and probing it delays the boot.
pub(super) fn no_usb() -> Element {
    Element::new("controller")
        .attribute("type", "usb")
        .attribute("model", "none")
}

fn memory(name: &'static str, size: Size) -> Element {
    Element::text(name, size.0.div_ceil(1024)).attribute("unit", "KiB")
}

fn block_device(index: usize, disk: &Disk, boots: bool) -> Element {
    // `writeback` uses the host's page cache, which guests share for their common base image. A guest's flush still
    // reaches the disk.
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

/// Returns the kernel's name of a disk: `vda` to `vdz`, then `vdaa`.
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

pub(super) fn interface(interface: &Interface) -> Element {
    Element::new("interface")
        .attribute("type", "network")
        .child(Element::new("mac").attribute("address", interface.mac))
        .child(Element::new("source").attribute("network", &interface.network))
        .child(Element::new("model").attribute("type", "virtio"))
        // The boot ROM only delays the firmware: no domain boots from the network.
        .child(Element::new("rom").attribute("enabled", "no"))
}

/// The XML that [`super::Connection::define_network`] defines.
pub(super) fn network_xml(network: &NetworkDefinition) -> String {
    render_network(network, true)
}

/// The same for a person to define by hand: no mark of pspd's, and a UUID of libvirt's own.
pub fn plain_network_xml(network: &NetworkDefinition) -> String {
    render_network(network, false)
}

fn render_network(network: &NetworkDefinition, owned: bool) -> String {
    let dns_hosts = network.hosts.iter().map(|host| dns_host(network, host));
    let reservations = network.hosts.iter().map(reservation);
    Element::new("network")
        .child(Element::text("name", &network.name))
        .children(owned.then(|| Element::text("uuid", network_uuid(network))))
        .children(owned.then(|| ownership::metadata(&network.ownership)))
        .child(Element::new("forward").attribute("mode", "nat"))
        // Without a name libvirt picks a free one. One bridge has no loops to look for.
        .child(
            Element::new("bridge")
                .attribute("stp", "off")
                .attribute("delay", 0),
        )
        .child(
            Element::new("domain")
                .attribute("name", &network.domain)
                .attribute("localOnly", "yes"),
        )
        // dnsmasq answers a name from DHCP only once there is a lease: so every guest is named here too.
        .child(
            Element::new("dns")
                .attribute("forwardPlainNames", "no")
                .children(owned.then(|| ownership::txt_record(&network.ownership)))
                .children(dns_hosts),
        )
        .child(
            Element::new("ip")
                .attribute("address", network.gateway)
                .attribute("netmask", network.cidr.netmask())
                .child(Element::new("dhcp").children(reservations)),
        )
        .to_xml()
}

pub(super) fn dns_host(network: &NetworkDefinition, host: &NetworkHost) -> Element {
    Element::new("host")
        .attribute("ip", host.address)
        .child(Element::text("hostname", &host.name))
        .child(Element::text(
            "hostname",
            format!("{}.{}", host.name, network.domain),
        ))
}

pub(super) fn reservation(host: &NetworkHost) -> Element {
    Element::new("host")
        .attribute("mac", host.mac)
        .attribute("name", &host.name)
        .attribute("ip", host.address)
}

#[cfg(test)]
mod tests;
