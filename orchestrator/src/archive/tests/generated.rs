//! What validation accepts can be exported, and what is exported can be imported: topologies that no person wrote.

use std::collections::BTreeSet;

use super::*;

/// Names that could be taken for one another, or for a file of the archive.
const NAMES: [&str; 9] = [
    "web",
    "db",
    "db-main",
    "main",
    "network",
    "manifest",
    "readme",
    "images",
    "vm-export",
];
const VOLUMES: [&str; 5] = ["data", "main-data", "credentials", "files", "x"];
const FILES: [(&str, &str); 5] = [
    ("words.txt", "words"),
    ("lib/words", "words"),
    ("app", "app"),
    ("a b/é'\"$", "word"),
    ("-", "words"),
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~é\\t]{0,12}",
        prop::sample::select(vec![
            "${HOME}", "%h", "- a", "null", "#", "\u{feff}", "!!str", "\u{2028}"
        ])
        .prop_map(str::to_owned),
    ]
}

fn values() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(value(), 0..3)
}

fn some_of(choices: &'static [&'static str]) -> impl Strategy<Value = BTreeSet<&'static str>> {
    prop::sample::subsequence(choices, 0..=choices.len())
        .prop_map(|some| some.into_iter().collect())
}

fn seconds() -> impl Strategy<Value = String> {
    (1..5000u32, prop::sample::select(vec!["s", "ms"]))
        .prop_map(|(count, unit)| format!("{count}{unit}"))
}

prop_compose! {
    fn service()(
        is_command: bool,
        port in 1024..65535u16,
        grpc: bool,
        environment in values(),
        secrets in prop::collection::vec(any::<bool>(), 0..3),
        (arguments, checkpoint, setup) in (values(), values(), values()),
        start_timeout in prop::option::of(seconds()),
        tls_key_log: bool,
        files in prop::sample::subsequence(FILES.to_vec(), 0..=FILES.len()),
    ) -> Value {
        let environment: BTreeMap<_, _> = (0..).map(|number| format!("A{number}")).zip(environment).collect();
        let secrets: BTreeMap<_, _> = secrets.into_iter().enumerate().map(|(number, generated)| {
            let secret = if generated { json!("generate") } else { json!({"file": "word"}) };
            (format!("S{number}"), secret)
        }).collect();
        let files: BTreeMap<_, _> = files.into_iter().collect();
        let setup: Vec<Vec<String>> = setup.into_iter().map(|word| vec!["echo".to_owned(), word]).collect();
        let mut service = json!({
            "port": port, "health": if grpc { "a.B" } else { "tcp" }, "environment": environment, "secrets": secrets,
            "arguments": arguments, "setup": setup, "tls_key_log": tls_key_log, "files": files,
        });
        if is_command {
            service["command"] = json!(["app/run", "x y"]);
        } else {
            service["binary"] = json!("service");
        }
        if !checkpoint.is_empty() {
            service["checkpoint"] = json!(checkpoint);
        }
        if let Some(timeout) = start_timeout {
            service["start_timeout"] = json!(timeout);
        }
        service
    }
}

prop_compose! {
    fn domain()(
        service in prop::option::of(service()),
        has_rom: bool,
        memory in (128..1024u32, 0..1024u32),
        vcpus in 1..9u32,
        system in 9_000..40_000u32,
        volumes in some_of(&VOLUMES),
        kibibytes in 4096..9999u32,
        boot_timeout in prop::option::of(seconds()),
        is_pushed_by_ssh: bool,
    ) -> Value {
        let mut disks: BTreeMap<&str, Value> = volumes
            .into_iter()
            .map(|volume| (volume, json!({"size": format!("{kibibytes} KiB"), "mount": format!("/srv/{volume}")})))
            .collect();
        disks.insert("system", json!(format!("{system} KiB")));
        let mut domain = json!({
            "image": "debian",
            "memory": {"current": format!("{} MiB", memory.0), "maximum": format!("{} MiB", memory.0 + memory.1)},
            "vcpus": {"current": vcpus, "maximum": vcpus + 1},
            "disks": disks,
            "push": if is_pushed_by_ssh { "ssh" } else { "auto" },
        });
        if has_rom {
            domain["firmware"] = json!("rom");
        }
        if let Some(service) = service {
            domain["service"] = service;
        }
        if let Some(timeout) = boot_timeout {
            domain["boot_timeout"] = json!(timeout);
        }
        domain
    }
}

prop_compose! {
    /// Domains of which each may depend on the one before it, and be its peer. The ROM's digest is not known yet.
    fn domains()(
        names in prop::sample::subsequence(NAMES.to_vec(), 1..4),
        domains in prop::collection::vec((domain(), any::<bool>(), any::<bool>()), 3),
    ) -> Vec<(&'static str, Value)> {
        let mut all: Vec<(&'static str, Value)> = Vec::new();
        for (name, (mut domain, depends, is_peer)) in names.into_iter().zip(domains) {
            if let Some((before, of)) = all.last() && of["service"].is_object() {
                if depends {
                    domain["depends_on"] = json!([before]);
                }
                if is_peer && domain["service"].is_object() {
                    domain["peers"] = json!([before]);
                }
            }
            if let Some(port) = domain["service"]["port"].as_u64() {
                domain["publish"] = json!([format!("127.0.0.1:{}:{port}", 1024 + all.len())]);
            }
            all.push((name, domain));
        }
        all
    }
}

fn topology(domains: Vec<(&str, Value)>, image: &Digest, rom: &Digest) -> String {
    let domains: BTreeMap<&str, Value> = domains
        .into_iter()
        .map(|(name, mut domain)| {
            if domain["firmware"] == "rom" {
                domain["firmware"] = json!({"rom": "rom", "sha256": rom});
            }
            (name, domain)
        })
        .collect();
    let images = json!({"debian": {"path": "image.qcow2", "sha256": image, "seed": "credentials"}});
    json!({"name": "demo", "images": images, "domains": domains}).to_string()
}

/// A spec's domains as they are on any host: files by what is in them, without what an import draws or leaves out.
fn anywhere(spec: &Spec, folder: &Path) -> Value {
    fn content(path: &Path) -> Value {
        if path.is_symlink() {
            return json!(fs::read_link(path).unwrap());
        }
        if path.is_file() {
            return json!(Digest::of(&fs::read(path).unwrap()));
        }
        let entries = fs::read_dir(path).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, content(&entry.path()))
        });
        json!(entries.collect::<BTreeMap<_, _>>())
    }
    fn replace(value: &mut Value, folder: &Path) {
        match value {
            Value::String(text) if Path::new(text).starts_with(folder) => {
                *value = content(Path::new(text));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| replace(item, folder)),
            Value::Object(entries) => {
                entries.remove("mac");
                if let Some(Value::Object(secrets)) = entries.get_mut("secrets") {
                    secrets
                        .values_mut()
                        .for_each(|secret| *secret = Value::Null);
                }
                entries.values_mut().for_each(|item| replace(item, folder));
            }
            _ => {}
        }
    }
    let mut domains = serde_json::to_value(&spec.domains).unwrap();
    replace(&mut domains, folder);
    domains
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_validation_accepts_is_exported_and_imported(domains in domains(), with_secrets: bool) {
        let fixture = Fixture::of(|image, rom| topology(domains, image, rom));
        prop_assume!(fixture.is_some());
        let fixture = fixture.unwrap();
        let archive = fixture.pack("archive.tar", with_secrets);
        prop_assert_eq!(verify(&archive).map_err(|error| format!("{error:#}")), Ok(()));
        let host = Host::new();
        let placement = host.import(&archive).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        let spec = crate::topology::load(&placement.folder.join(TOPOLOGY)).unwrap();
        prop_assert_eq!(&spec, &placement.spec);
        let (before, after) = (
            anywhere(&fixture.spec, fixture.folder.path()),
            anywhere(&spec, host.folder.path()),
        );
        prop_assert_eq!(before, after);
    }
}
