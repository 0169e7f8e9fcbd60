//! A domain's firmware, machine, memory and vCPUs.

use super::super::Found;
use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::Files;
use crate::spec::{Boot, Firmware, Machine, Range, Size};

const MEMORY: Size = Size::mib(512);
const LEAST_MEMORY: Size = Size::mib(64);

pub fn firmware(reader: &Reader, node: &Node, files: &Files) -> Option<Firmware> {
    if let Value::Map(_) = node.value {
        let fields = reader.object(node, node.at, &keys::ROM)?;
        let path = fields
            .get("rom")
            .and_then(|node| files.expect(reader, node, "rom", Found::File, "name a ROM's file"));
        let sha256 = fields.get("sha256").and_then(|node| reader.digest(node));
        return Some(Firmware::Rom {
            path: path?,
            sha256: sha256?,
        });
    }
    if reader.text(node, "firmware")? == "coreboot" {
        reader.fault(
            Fault::new(node.at, "pspd does not build coreboot yet")
                .help("name a ROM that you have: {rom: FILE, sha256: DIGEST}"),
        );
        return None;
    }
    reader.word(node, "firmware", &[("seabios", ()), ("uefi", ())])?;
    Some(if reader.text(node, "firmware")? == "uefi" {
        Firmware::Uefi
    } else {
        Firmware::Seabios
    })
}

pub fn boot(reader: &Reader, fields: &Fields, recipe: bool) -> Option<Boot> {
    let default = if recipe { Boot::Kernel } else { Boot::Disk };
    let boot = fields.get("boot").map_or(Some(default), |node| {
        reader.word(
            node,
            "boot",
            &[("kernel", Boot::Kernel), ("disk", Boot::Disk)],
        )
    })?;
    if boot == Boot::Kernel && !recipe {
        reader.fault(
            Fault::new(
                fields.at("boot"),
                "only a recipe's image has a kernel of its own to boot",
            )
            .help("write `boot: disk`"),
        );
    }
    Some(boot)
}

pub fn machine(reader: &Reader, fields: &Fields, firmware: Option<&Firmware>) -> Option<Machine> {
    let seabios = matches!(firmware, None | Some(Firmware::Seabios));
    let default = if seabios { Machine::Pc } else { Machine::Q35 };
    let machine = fields.get("machine").map_or(Some(default), |node| {
        reader.word(
            node,
            "machine",
            &[("pc", Machine::Pc), ("q35", Machine::Q35)],
        )
    })?;
    if machine == Machine::Pc && matches!(firmware, Some(Firmware::Uefi)) {
        reader.fault(
            Fault::new(fields.at("machine"), "uefi does not run on `pc`")
                .help("write `machine: q35`, or leave it out"),
        );
    }
    Some(machine)
}

pub fn memory(reader: &Reader, fields: &Fields) -> Option<Range<Size>> {
    let Some(node) = fields.get("memory") else {
        return Some(fixed(MEMORY));
    };
    let range = range(reader, node, "memory", &keys::MEMORY, Reader::size)?;
    if range.current < LEAST_MEMORY {
        reader.fault(Fault::new(
            node.at,
            format!(
                "{} is too little to boot with; give at least {LEAST_MEMORY}",
                range.current
            ),
        ));
    }
    if !range.current.0.is_multiple_of(1 << 20) || !range.maximum.0.is_multiple_of(1 << 20) {
        reader.fault(Fault::new(node.at, "memory is given in whole MiB"));
    }
    Some(range)
}

pub fn vcpus(reader: &Reader, fields: &Fields) -> Option<Range<u32>> {
    let Some(node) = fields.get("vcpus") else {
        return Some(fixed(1));
    };
    range(reader, node, "vcpus", &keys::VCPUS, |reader, node, what| {
        let count = reader.number(node, what, 1, 255)?;
        u32::try_from(count).ok()
    })
}

fn fixed<T: Copy>(value: T) -> Range<T> {
    Range {
        current: value,
        maximum: value,
    }
}

/// One value that stays, or `{current, maximum}`.
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
            "the current {what}, {}, is more than the maximum, {}",
            range.current, range.maximum
        );
        reader.fault(Fault::new(node.at, message).help("raise `maximum`, or lower `current`"));
    }
    Some(range)
}
