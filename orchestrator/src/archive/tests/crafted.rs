//! Archives that were crafted to do harm, each with one thing wrong.

mod disks;

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
];

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let fixture = Fixture::new();
    let good = Raw::read(&fixture.pack("a.tar", false));
    let folder = tempfile::tempdir().unwrap();
    Host::new().import(&good.write(folder.path())).unwrap();
    for (what, craft, says) in HOSTILE.iter().chain(disks::HOSTILE) {
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
