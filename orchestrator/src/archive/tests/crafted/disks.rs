//! Disks that are not what they say, or name files of the host.

use super::*;

pub(super) const HOSTILE: &[Craft] = &[
    (
        "a disk with a snapshot",
        |raw| patch(raw, 60, &1u32.to_be_bytes()),
        "1 internal snapshots",
    ),
    (
        "a disk that counts wrong",
        |raw| {
            let disk = &raw.0[raw.at("web.qcow2")].1;
            let word =
                |at: usize| u64::from_be_bytes(disk[at..at + 8].try_into().unwrap()) as usize;
            let block = word(word(48));
            patch(raw, block, &[0, 0, 0, 0]);
        },
        "counted 0 times",
    ),
    (
        "a disk whose L1 table is unaligned",
        |raw| {
            let disk = &raw.0[raw.at("web.qcow2")].1;
            let l1 = u64::from_be_bytes(disk[40..48].try_into().unwrap());
            patch(raw, 40, &(l1 + 8).to_be_bytes());
        },
        "inside a cluster",
    ),
    (
        "an image over a file of the host",
        |raw| {
            let name = raw.manifest_value()["spec"]["images"]["debian"]["path"].clone();
            let name = name.as_str().unwrap();
            over(raw, name, "/etc/shadow");
            let sha256 = Digest::of(&raw.0[raw.at(name)].1);
            raw.manifest(|manifest| manifest["spec"]["images"]["debian"]["sha256"] = json!(sha256));
        },
        "its backing file is `/etc/shadow`",
    ),
    (
        "a disk that is none",
        |raw| raw.replace("web.qcow2", b"#!/bin/sh".repeat(1000)),
        "not a qcow2 image",
    ),
    (
        "a disk over a file of the host",
        |raw| over(raw, "web.qcow2", "/etc/shadow"),
        "its backing file is `/etc/shadow`",
    ),
    (
        "a volume over a file of the host",
        |raw| over(raw, "store.data.qcow2", "/etc/shadow"),
        "its backing file is `/etc/shadow`",
    ),
    (
        "a disk over JSON",
        |raw| {
            over(
                raw,
                "web.qcow2",
                "json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}",
            )
        },
        "its backing file is `json:",
    ),
    (
        "a disk with its data elsewhere",
        |raw| patch(raw, 72, &4u64.to_be_bytes()),
        "keeps its data in another file",
    ),
    (
        "an encrypted disk",
        |raw| patch(raw, 32, &1u32.to_be_bytes()),
        "it is encrypted",
    ),
    (
        "a disk of another size",
        |raw| patch(raw, 24, &(8u64 << 20).to_be_bytes()),
        "but the manifest says",
    ),
    (
        "a disk with an endless table",
        |raw| patch(raw, 36, &u32::MAX.to_be_bytes()),
        "its L1 table has",
    ),
    (
        "a table behind its end",
        |raw| patch(raw, 40, &(1u64 << 60).to_be_bytes()),
        "its L1 table is truncated",
    ),
    (
        "a header that is too short",
        |raw| patch_volume(raw, 100, &0u32.to_be_bytes()),
        "its header has 0 bytes",
    ),
    (
        "a header of odd length",
        |raw| patch_volume(raw, 100, &105u32.to_be_bytes()),
        "its header has 105 bytes",
    ),
    (
        "a header of more than a cluster",
        |raw| patch_volume(raw, 100, &((64u32 << 10) + 8).to_be_bytes()),
        "its header has 65544 bytes",
    ),
    (
        "a header without room for an image's name",
        |raw| patch_volume(raw, 100, &(64u32 << 10).to_be_bytes()),
        "unknown fields",
    ),
    (
        "another compression that is none",
        |raw| patch(raw, 72, &8u64.to_be_bytes()),
        "compression type 0",
    ),
    (
        "another compression that is not marked",
        |raw| compressed(raw, 1, 0),
        "compression type 1",
    ),
    (
        "an unknown compression",
        |raw| compressed(raw, 7, 8),
        "compression type 7",
    ),
    (
        "an extension beyond the first cluster",
        |raw| extension(raw, 1, u32::MAX),
        "a header extension has 4294967295 bytes",
    ),
    (
        "an extension inside the backing file's name",
        |raw| patch(raw, 8, &108u64.to_be_bytes()),
        "a header extension is truncated",
    ),
    (
        "bitmaps",
        |raw| extension(raw, 0x2385_2875, 8),
        "header extension 0x23852875",
    ),
    (
        "a header of LUKS",
        |raw| extension(raw, 0x0537_be77, 16),
        "header extension 0x0537be77",
    ),
    (
        "an unknown extension",
        |raw| extension(raw, 0x1234_5678, 0),
        "header extension 0x12345678",
    ),
    (
        "a long format of the backing file",
        |raw| patch(raw, 108, &16u32.to_be_bytes()),
        "invalid backing format name of 16 bytes",
    ),
    (
        "a backing file's name behind the first cluster",
        |raw| patch(raw, 8, &((64u64 << 10) + 8).to_be_bytes()),
        "the name of its backing file is at 65544",
    ),
    (
        "a table of snapshots inside a cluster",
        |raw| patch_volume(raw, 64, &8u64.to_be_bytes()),
        "its snapshot table is at 8",
    ),
    (
        "raw data in a file that is not named",
        |raw| patch_volume(raw, 88, &2u64.to_be_bytes()),
        "autoclear features 0x2",
    ),
    (
        "a cluster of zeros in version 2",
        |raw| {
            let disk = &raw.0[raw.at(VOLUME)].1;
            let word =
                |at: usize| u64::from_be_bytes(disk[at..at + 8].try_into().unwrap()) as usize;
            let l2 = word(40);
            let first = (word(l2) & 0x00ff_ffff_ffff_fe00) + 8;
            let entry = word(first) as u64 | 1;
            patch_volume(raw, 4, &2u32.to_be_bytes());
            patch_volume(raw, first, &entry.to_be_bytes());
        },
        "a cluster of zeros, which version 2 does not have",
    ),
    (
        "a cluster behind its end",
        |raw| {
            let at = raw.at("web.qcow2");
            let mut disk = raw.0[at].1.clone();
            let l1 = u64::from_be_bytes(disk[40..48].try_into().unwrap()) as usize;
            disk[l1..l1 + 8].copy_from_slice(&(1u64 << 40).to_be_bytes());
            raw.replace("web.qcow2", disk);
        },
        "beyond the end of the file",
    ),
    (
        "a volume of more than its spec",
        |raw| {
            patch_volume(raw, 24, &(8u64 << 20).to_be_bytes());
            raw.manifest(|manifest| {
                file(manifest, VOLUME)["content"]["virtual_size"] = json!(8 << 20)
            });
        },
        "`store.data.qcow2` has 8388608 bytes, and its size in the spec is 4194304",
    ),
    (
        "a system disk of more than its spec",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["web"]["disks"]["system"] = json!("8 MiB")
            })
        },
        "`web.qcow2` has 16777216 bytes, and its size in the spec is 8388608",
    ),
    (
        "an image of more than the spec of its disk",
        |raw| {
            smaller(raw);
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["web"]["disks"]["system"] = json!("4 MiB")
            })
        },
        "the image of `web` has 8388608 bytes, and its system disk has 4194304",
    ),
    (
        "an image of more than its disk",
        smaller,
        "the image of `web` has 8388608 bytes, and its system disk has 4194304",
    ),
];

/// Makes a system disk of 4 MiB: less than its image.
fn smaller(raw: &mut Raw) {
    patch(raw, 24, &(4u64 << 20).to_be_bytes());
    raw.manifest(|manifest| {
        file(manifest, "web.qcow2")["content"]["virtual_size"] = json!(4 << 20)
    });
}

/// Writes another backing file's name into a disk's header.
fn over(raw: &mut Raw, name: &str, backing: &str) {
    let mut disk = raw.0[raw.at(name)].1.clone();
    let at = 512;
    disk[8..16].copy_from_slice(&(at as u64).to_be_bytes());
    disk[16..20].copy_from_slice(&(backing.len() as u32).to_be_bytes());
    disk[at..at + backing.len()].copy_from_slice(backing.as_bytes());
    raw.replace(name, disk);
}

const VOLUME: &str = "store.data.qcow2";

fn patch(raw: &mut Raw, at: usize, bytes: &[u8]) {
    patch_disk(raw, "web.qcow2", at, bytes);
}

fn patch_volume(raw: &mut Raw, at: usize, bytes: &[u8]) {
    patch_disk(raw, VOLUME, at, bytes);
}

fn patch_disk(raw: &mut Raw, name: &str, at: usize, bytes: &[u8]) {
    let mut disk = raw.0[raw.at(name)].1.clone();
    disk[at..at + bytes.len()].copy_from_slice(bytes);
    raw.replace(name, disk);
}

/// Puts an extension behind a volume's header, which has none.
fn extension(raw: &mut Raw, kind: u32, length: u32) {
    let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    patch_volume(raw, 104, &head);
}

/// Gives a volume's header the field of a compression type, and incompatible features.
fn compressed(raw: &mut Raw, kind: u8, features: u64) {
    patch_volume(raw, 72, &features.to_be_bytes());
    patch_volume(raw, 100, &112u32.to_be_bytes());
    patch_volume(raw, 104, &[kind]);
}
