//! Reads a domain's firmware, machine, memory and vCPUs.

use super::super::Found;
use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::Files;
use crate::spec::{Boot, Firmware, Machine, Payload, Range, Size};

/// With a maximum of one virtual CPU, QEMU's emulation translates locked instructions without a memory barrier. The
/// guest then sometimes misses a disk's interrupt, and waits for it forever.
const LEAST_VCPUS: u32 = 2;

const MEMORY: Size = Size::mib(512);
/// Less does not hold a kernel, its initramfs and systemd.
pub(crate) const LEAST_MEMORY: Size = Size::mib(128);
/// coreboot loads the initramfs at 128 MiB, above the memory where the kernel unpacks itself.
const LEAST_MEMORY_OF_ROM_KERNEL: Size = Size::mib(256);
/// QEMU's emulated processors have addresses of 40 bits, also for devices.
const MOST_MEMORY: Size = Size::gib(512);

pub(super) fn firmware(reader: &Reader, node: &Node, files: &Files) -> Option<Firmware> {
    if let Value::Map(entries) = &node.value {
        if entries.iter().any(|(key, _)| key.name == "coreboot") {
            let fields = reader.object(node, node.at, &keys::COREBOOT)?;
            return coreboot(reader, fields.get("coreboot")?);
        }
        let fields = reader.object(node, node.at, &keys::ROM)?;
        let path = fields.get("rom").and_then(|node| {
            files.expect(
                reader,
                node,
                "rom",
                Found::File,
                "use the path of a ROM on this host",
            )
        });
        let sha256 = fields.get("sha256").and_then(|node| reader.digest(node));
        return Some(Firmware::Rom {
            path: path?,
            sha256: sha256?,
        });
    }
    let words = [
        ("seabios", Firmware::Seabios),
        ("coreboot", Firmware::Coreboot(Payload::Seabios)),
        ("uefi", Firmware::Uefi),
    ];
    reader.word(node, "firmware", &words)
}

fn coreboot(reader: &Reader, node: &Node) -> Option<Firmware> {
    let fields = reader.object(node, node.at, &keys::PAYLOAD)?;
    let words = [
        ("seabios", Payload::Seabios),
        ("linux", Payload::Linux { cmdline: None }),
    ];
    let payload = fields
        .get("payload")
        .map_or(Some(Payload::Seabios), |node| {
            reader.word(node, "payload", &words)
        })?;
    let cmdline = match fields.get("cmdline") {
        Some(node) => Some(reader.text(node, "cmdline")?.to_owned()),
        None => None,
    };
    if payload == Payload::Seabios && cmdline.is_some() {
        reader.fault(
            Fault::new(
                fields.at("cmdline"),
                "`cmdline` can be used only with `payload: linux`",
            )
            .help("with `seabios`, the image defines the command line"),
        );
    }
    Some(Firmware::Coreboot(match payload {
        Payload::Linux { .. } => Payload::Linux { cmdline },
        Payload::Seabios => Payload::Seabios,
    }))
}

pub(super) fn boot(
    reader: &Reader,
    fields: &Fields,
    firmware: Option<&Firmware>,
    is_built: bool,
) -> Option<Boot> {
    if firmware.is_some_and(Firmware::holds_kernel) {
        return boot_of_rom(reader, fields, is_built);
    }
    let default = if is_built { Boot::Kernel } else { Boot::Disk };
    let boot = fields.get("boot").map_or(Some(default), |node| {
        reader.word(
            node,
            "boot",
            &[("kernel", Boot::Kernel), ("disk", Boot::Disk)],
        )
    })?;
    if boot == Boot::Kernel && !is_built {
        reader.fault(
            Fault::new(
                fields.at("boot"),
                "`boot: kernel` needs an image that pspd builds",
            )
            .help("write `boot: disk`"),
        );
    }
    Some(boot)
}

/// Checks `boot` for `payload: linux`, whose kernel is in the ROM.
fn boot_of_rom(reader: &Reader, fields: &Fields, is_built: bool) -> Option<Boot> {
    let fault = if !is_built {
        Fault::new(
            fields.at("firmware"),
            "`payload: linux` needs an image that pspd builds",
        )
        .help("use `payload: seabios`")
    } else if fields.get("boot").is_some() {
        Fault::new(
            fields.at("boot"),
            "`boot` cannot be used with `payload: linux`, whose kernel is in the ROM",
        )
        .help("remove it, or use `payload: seabios`")
    } else {
        return Some(Boot::Kernel);
    };
    reader.fault(fault);
    None
}

pub(super) fn machine(
    reader: &Reader,
    fields: &Fields,
    firmware: Option<&Firmware>,
) -> Option<Machine> {
    let seabios = matches!(firmware, None | Some(Firmware::Seabios));
    let default = if seabios { Machine::Pc } else { Machine::Q35 };
    let machine = fields.get("machine").map_or(Some(default), |node| {
        reader.word(
            node,
            "machine",
            &[("pc", Machine::Pc), ("q35", Machine::Q35)],
        )
    })?;
    let fault = match firmware {
        Some(Firmware::Uefi) => "uefi does not support `machine: pc`",
        Some(Firmware::Coreboot(_)) => {
            "pspd's coreboot is built for `q35` and does not boot on other machines"
        }
        _ => return Some(machine),
    };
    if machine == Machine::Pc {
        reader.fault(
            Fault::new(fields.at("machine"), fault)
                .help("write `machine: q35`, or remove it; use `pc` only with seabios"),
        );
    }
    Some(machine)
}

pub(super) fn memory(
    reader: &Reader,
    fields: &Fields,
    firmware: Option<&Firmware>,
) -> Option<Range<Size>> {
    let Some(node) = fields.get("memory") else {
        return Some(fixed(MEMORY));
    };
    let range = range(reader, node, "memory", &keys::MEMORY, Reader::size)?;
    let least = if firmware.is_some_and(Firmware::holds_kernel) {
        LEAST_MEMORY_OF_ROM_KERNEL
    } else {
        LEAST_MEMORY
    };
    if range.current < least {
        reader.fault(Fault::new(
            node.at,
            format!(
                "{} is not enough memory to boot; use at least {least}",
                range.current
            ),
        ));
    }
    if range.maximum > MOST_MEMORY {
        reader.fault(Fault::new(
            node.at,
            format!(
                "{} is more memory than a domain can have; use at most {MOST_MEMORY}",
                range.maximum
            ),
        ));
    }
    if !range.current.0.is_multiple_of(1 << 20) || !range.maximum.0.is_multiple_of(1 << 20) {
        reader.fault(Fault::new(node.at, "memory must be a whole number of MiB"));
    }
    Some(range)
}

pub(super) fn vcpus(reader: &Reader, fields: &Fields) -> Option<Range<u32>> {
    let read = |reader: &Reader, node: &Node, what: &str| {
        let count = reader.number(node, what, 1, 255)?;
        u32::try_from(count).ok()
    };
    let range = match fields.get("vcpus") {
        Some(node) => range(reader, node, "vcpus", &keys::VCPUS, read)?,
        None => fixed(1),
    };
    Some(Range {
        maximum: range.maximum.max(LEAST_VCPUS),
        ..range
    })
}

fn fixed<T: Copy>(value: T) -> Range<T> {
    Range {
        current: value,
        maximum: value,
    }
}

/// Reads a fixed value, or `{current, maximum}`.
fn range<T: Copy + PartialOrd + std::fmt::Display>(
    reader: &Reader,
    node: &Node,
    what: &str,
    object: &keys::Object,
    read: impl Fn(&Reader, &Node, &str) -> Option<T>,
) -> Option<Range<T>> {
    let Value::Map(_) = node.value else {
        return read(reader, node, what).map(fixed);
    };
    let own = reader.object(node, node.at, object)?;
    let get = |key: &str| own.get(key).map(|node| read(reader, node, key));
    let current = get("current").flatten();
    let range = Range {
        maximum: get("maximum").unwrap_or(current)?,
        current: current?,
    };
    if range.current > range.maximum {
        let message = format!(
            "the current {what} ({}) is more than the maximum ({})",
            range.current, range.maximum
        );
        reader.fault(Fault::new(node.at, message).help("raise `maximum`, or lower `current`"));
    }
    Some(range)
}
