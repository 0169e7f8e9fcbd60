//! Archives that were crafted to do harm, each with one thing wrong.

use super::*;

/// What is wrong with an archive, and what the refusal says.
type Craft = (&'static str, fn(&mut Raw), &'static str);

const HOSTILE: &[Craft] = &[
    (
        "a symbolic link",
        |raw| raw.add("vm-export/link", EntryType::Symlink, b""),
        "not a regular file",
    ),
    (
        "a hard link",
        |raw| raw.add("vm-export/link", EntryType::Link, b""),
        "not a regular file",
    ),
    (
        "a folder",
        |raw| raw.add("vm-export/", EntryType::Directory, b""),
        "not a regular file",
    ),
    (
        "a device",
        |raw| raw.add("vm-export/null", EntryType::Char, b""),
        "not a regular file",
    ),
    (
        "a sparse file",
        |raw| raw.add("vm-export/sparse", EntryType::GNUSparse, b""),
        "not a regular file",
    ),
    (
        "a PAX size",
        |raw| {
            raw.add("vm-export/pax", EntryType::XHeader, b"20 size=9999999999\n");
            let pax = raw.0.pop().unwrap();
            raw.0.insert(2, pax);
        },
        "not a regular file",
    ),
    (
        "a GNU long name",
        |raw| raw.add("././@LongLink", EntryType::GNULongName, &[b'a'; 4096]),
        "not a regular file",
    ),
    (
        "a parent path",
        |raw| raw.rename(4, b"vm-export/../../etc/passwd"),
        "is not a valid name of a file",
    ),
    (
        "an absolute path",
        |raw| raw.rename(4, b"/etc/passwd"),
        "is not in `vm-export/`",
    ),
    (
        "a name that is not text",
        |raw| raw.rename(4, b"vm-export/\xff\xfe"),
        "is not a valid name of a file",
    ),
    (
        "a hidden name",
        |raw| raw.rename(4, b"vm-export/.bashrc"),
        "is not a valid name of a file",
    ),
    (
        "a duplicate",
        |raw| {
            let twice = raw.0[4].clone();
            raw.0.insert(5, twice)
        },
        "the manifest lists",
    ),
    (
        "a second manifest",
        |raw| {
            let twice = raw.0[1].clone();
            raw.0.push(twice)
        },
        "`manifest.json`",
    ),
    (
        "a file more",
        |raw| raw.add("vm-export/more", EntryType::Regular, b"more"),
        "does not list the file `more`",
    ),
    ("a file less", |raw| drop(raw.0.pop()), "is missing"),
    (
        "another order",
        |raw| raw.0.swap(3, 4),
        "the manifest lists",
    ),
    (
        "no manifest",
        |raw| drop(raw.0.drain(..2)),
        "does not begin with",
    ),
    (
        "a manifest that was changed",
        |raw| {
            let at = raw.at(MANIFEST);
            raw.0[at].1[20] ^= 1
        },
        "`manifest.json` is damaged",
    ),
    (
        "another size",
        |raw| {
            let at = raw.at("README");
            raw.0[at].1.push(b'!');
            let size = raw.0[at].1.len() as u64;
            raw.0[at].0.set_size(size);
            raw.0[at].0.set_cksum()
        },
        "bytes, but the manifest says",
    ),
    (
        "another content",
        |raw| {
            let at = raw.at("store.qcow2");
            raw.0[at].1[70_000] ^= 1
        },
        "`vm-export/store.qcow2` is damaged",
    ),
    (
        "a newer format",
        |raw| {
            raw.manifest(|manifest| {
                manifest["format"] = json!(3);
                manifest["new"] = json!(true)
            })
        },
        "reads formats up to 2",
    ),
    (
        "an unknown key",
        |raw| raw.manifest(|manifest| manifest["new"] = json!(true)),
        "unknown field `new`",
    ),
    (
        "a name twice in the manifest",
        |raw| {
            raw.manifest(|manifest| {
                let mut twice = file(manifest, "README").clone();
                twice["name"] = json!("readme");
                manifest["files"].as_array_mut().unwrap().push(twice)
            })
        },
        "lists `readme` twice",
    ),
    (
        "the manifest in the manifest",
        |raw| raw.manifest(|manifest| file(manifest, "README")["name"] = json!("Manifest.json")),
        "lists `Manifest.json` twice",
    ),
    (
        "a path as a name",
        |raw| raw.manifest(|manifest| file(manifest, "README")["name"] = json!("../README")),
        "is not a valid name of a file",
    ),
    (
        "too many files",
        |raw| {
            raw.manifest(|manifest| manifest["files"] = (0..5000).map(|number| json!({"name": format!("f{number}"), "size": 0, "sha256": "0".repeat(64), "content": {"kind": "plain"}})).collect())
        },
        "5000 files",
    ),
    (
        "sizes that overflow",
        |raw| {
            raw.manifest(|manifest| {
                for file in manifest["files"].as_array_mut().unwrap() {
                    file["size"] = json!(u64::MAX / 2)
                }
            })
        },
        "sizes in the manifest are impossible",
    ),
    (
        "a bomb",
        |raw| raw.manifest(|manifest| file(manifest, "README")["size"] = json!(1u64 << 50)),
        "not plausible for an export",
    ),
    (
        "a name that is not a label",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["Evil/../x"] =
                    manifest["spec"]["domains"]["web"].clone()
            })
        },
        "is not a DNS label",
    ),
    (
        "a merge in place of the domains",
        |raw| {
            raw.manifest(|manifest| {
                let domains = manifest["spec"]["domains"].take();
                manifest["spec"]["domains"] = json!({"<<": [domains]})
            })
        },
        "the archive's spec has a key `<<`",
    ),
    (
        "a merge deep inside",
        |raw| {
            raw.manifest(|manifest| {
                let store = &mut manifest["spec"]["domains"]["store"];
                store["service"]["environment"] = json!([{"<<": {"A": "b"}}])
            })
        },
        "the archive's spec has a key `<<`",
    ),
    (
        "a binary of the host",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["service"]["binary"] = json!("/etc/shadow")
            })
        },
        "no such file: `/etc/shadow`",
    ),
    (
        "a binary above",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["service"]["binary"] =
                    json!("../../etc/shadow")
            })
        },
        "no such file",
    ),
    (
        "a ROM of the host",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["firmware"]["rom"] = json!("/dev/zero")
            })
        },
        "no such file: `/dev/zero`",
    ),
    (
        "a disk as a binary",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["service"]["binary"] = json!("web.qcow2")
            })
        },
        "no such file",
    ),
    (
        "a file as a directory",
        |raw| {
            raw.manifest(|manifest| {
                let files = manifest["files"].as_array_mut().unwrap();
                let words = files
                    .iter_mut()
                    .find(|file| file["name"] == "store.service.1");
                words.unwrap()["content"] = json!({"kind": "folder"});
            })
        },
        "`store.service.1` is refused",
    ),
    (
        "a recipe to run",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["images"]["debian"] = json!({"recipe": "/tmp"})
            })
        },
        "no such directory",
    ),
    (
        "an image to fetch",
        |raw| {
            raw.manifest(|manifest| {
                let image = &mut manifest["spec"]["images"]["debian"];
                *image = json!({"url": "http://127.0.0.1/x", "sha256": image["sha256"]})
            })
        },
        "is not a file of the archive",
    ),
    (
        "an image's other digest",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["images"]["debian"]["sha256"] = json!("0".repeat(64))
            })
        },
        "is not the archive's file",
    ),
    (
        "a unit in the environment",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["service"]["environment"]["A"] =
                    json!("b\nExecStart=/bin/sh")
            })
        },
        "contains a line break",
    ),
    (
        "XML in a name",
        |raw| raw.manifest(|manifest| manifest["spec"]["network"]["domain"] = json!("a'/><b>")),
        "is not a valid DNS domain",
    ),
    (
        "a volume of nobody",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "store.data.qcow2")["content"]["volume"] = json!("other")
            })
        },
        "a volume that the spec does not have",
    ),
    (
        "no volume",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "store.data.qcow2")["content"] = json!({"kind": "plain"})
            })
        },
        "lacks the volume `data`",
    ),
    (
        "one disk for two",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "web.qcow2")["content"]["domain"] = json!("store")
            })
        },
        "are the same disk",
    ),
    (
        "a disk of another image",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "web.qcow2")["content"]["image"] = json!("store.service")
            })
        },
        "whose image is not",
    ),
    (
        "a key of nobody",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "host", "domain": "nobody"}})
            })
        },
        "the key of something that the spec does not have",
    ),
    (
        "a secret that no service has",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "value", "domain": "store", "key": "../ca.pem"}})
            })
        },
        "the key of something that the spec does not have",
    ),
    (
        "a key elsewhere",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "host", "domain": "../../x"}})
            })
        },
        "is not a DNS label",
    ),
    (
        "an unknown key of a plain file",
        |raw| raw.manifest(|manifest| file(manifest, "README")["content"]["new"] = json!(true)),
        "unknown field `new`",
    ),
    (
        "an unknown key of a file",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "store.service")["content"]["domain"] = json!("web")
            })
        },
        "unknown field `domain`",
    ),
    (
        "an unknown key of a disk",
        |raw| raw.manifest(|manifest| file(manifest, "web.qcow2")["content"]["new"] = json!(1)),
        "unknown field `new`",
    ),
    (
        "an unknown key of a key",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "ssh", "domain": "store"}})
            })
        },
        "unknown field `domain`",
    ),
    (
        "a key that is none",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "ssh"}})
            })
        },
        "it is not a valid SSH key",
    ),
    (
        "an authority that is none",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "authority"}})
            })
        },
        "it is not a certificate with its private key",
    ),
    (
        "a secret of many lines",
        |raw| {
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "value", "domain": "store", "key": "TOKEN"}})
            })
        },
        "it is not a secret in one line: it contains a line break",
    ),
    (
        "two of one key",
        |raw| {
            raw.manifest(|manifest| {
                for name in ["README", "network.xml"] {
                    file(manifest, name)["content"] =
                        json!({"kind": "secret", "key": {"of": "ssh"}})
                }
            })
        },
        "are the same key",
    ),
    (
        "a long key",
        |raw| {
            raw.replace("README", vec![b'a'; (64 << 10) + 1]);
            raw.manifest(|manifest| {
                file(manifest, "README")["content"] =
                    json!({"kind": "secret", "key": {"of": "ssh"}})
            })
        },
        "the limit is 65536",
    ),
    (
        "a ROM's other digest",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["firmware"]["sha256"] = json!("0".repeat(64))
            })
        },
        "the ROM of `store` is not the archive's file",
    ),
    (
        "a ROM that no machine maps",
        |raw| {
            let rom = raw.manifest_value()["spec"]["domains"]["store"]["firmware"]["rom"].clone();
            raw.replace(rom.as_str().unwrap(), vec![7; 1000]);
            raw.manifest(|manifest| {
                manifest["spec"]["domains"]["store"]["firmware"]["sha256"] =
                    json!(Digest::of(&[7; 1000]))
            })
        },
        "has 1000 bytes",
    ),
    (
        "values without number",
        |raw| {
            raw.manifest(|manifest| {
                manifest["spec"]["network"] = (0..30_000).map(|_| json!({"": 0})).collect()
            })
        },
        "the limits are",
    ),
    (
        "a spec that is no topology's",
        |raw| {
            raw.manifest(|manifest| {
                let long = "a".repeat(90_000);
                manifest["spec"]["domains"]["store"]["service"]["arguments"] =
                    (0..20).map(|_| json!(long)).collect()
            })
        },
        "the maximum of a topology is",
    ),
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

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let fixture = Fixture::new();
    let good = Raw::read(&fixture.pack("a.tar", false));
    let folder = tempfile::tempdir().unwrap();
    Host::new().import(&good.write(folder.path())).unwrap();
    for (what, craft, says) in HOSTILE {
        let mut raw = good.clone();
        craft(&mut raw);
        let error = Host::refuses(&raw.write(folder.path()));
        assert!(error.contains(says), "{what}: {error}");
    }
}

/// Whatever shape each value of a spec has, it is refused or it imports: here and where ports and networks are moved.
#[test]
fn values_of_any_shape_are_refused_without_a_panic() {
    let fixture = Fixture::new();
    let mut good = Raw::read(&fixture.pack("a.tar", false));
    // No file is read before the manifest is checked.
    good.0.truncate(2);
    let folder = tempfile::tempdir().unwrap();
    let spec: Value = serde_json::from_slice(&good.0[good.at(MANIFEST)].1).unwrap();
    let mut places = Vec::new();
    every_place(&spec["spec"], "/spec".to_owned(), &mut places);
    assert!(places.len() > 40, "{places:?}");
    let shapes = [
        json!(null),
        json!([]),
        json!({}),
        json!([[{}]]),
        json!([{"a": 1}]),
        json!({"a": []}),
        json!(-1),
        json!(""),
    ];
    for place in &places {
        for shape in &shapes {
            let mut raw = good.clone();
            raw.manifest(|manifest| *manifest.pointer_mut(place).unwrap() = shape.clone());
            let archive = raw.write(folder.path());
            for (connection, networks) in [("lab", &[][..]), ("qemu:///system", &["10.77.0.0/16"])]
            {
                // Most are refused, and some are allowed to be missing.
                let _ = Host::new().open(&archive, connection, networks, |_| true);
            }
        }
    }
}

fn every_place(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let key = key.replace('~', "~0").replace('/', "~1");
                every_place(value, format!("{at}/{key}"), places);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                every_place(value, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
}
