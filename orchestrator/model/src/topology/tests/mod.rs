//! Tests of the faults that users see, and properties of accepted topologies.

mod faults;
mod fronts;
mod names;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::publish::Publish;
use crate::spec::{Builtin, ImageSource};

const VALID: &str = "\
name: demo
images:
  debian: {recipe: recipe}
domains:
  web:
    image: debian
    memory: {current: 512 MiB, maximum: 1 GiB}
    disks:
      data: {size: 1 GiB, mount: /var/lib/web}
    service: {binary: web, port: 50051, health: web.Web, environment: {A: 1, B: true}}
    publish: [\"8080:80\"]
";

/// A host where `recipe` and `debian` are directories, `missing` does not exist, and every other path is a file.
fn look(path: &Path) -> Found {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("recipe" | "debian") => Found::Folder,
        Some("missing") => Found::Nothing,
        _ => Found::File,
    }
}

fn read(text: &str) -> Result<Spec, Vec<Fault>> {
    parse(text, Path::new("/base"), &look)
}

fn shown(text: &str) -> String {
    let faults = read(text).expect_err("it has faults");
    Faults::in_text(Path::new("/base/topology.yaml"), text, faults).to_string()
}

/// [`VALID`] with one line replaced.
fn with(from: &str, to: &str) -> String {
    assert!(
        VALID.contains(from),
        "`{from}` is not in the valid topology"
    );
    VALID.replace(from, to)
}

#[test]
fn defaults_are_resolved() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&read(VALID).unwrap()).unwrap(), @r#"
    {
      "name": "demo",
      "connection": "lab",
      "accel": "auto",
      "autostart": false,
      "network": {
        "name": "demo",
        "cidr": "10.77.0.0/24",
        "gateway": "10.77.0.1",
        "domain": "pspd.internal"
      },
      "images": {
        "debian": {
          "name": "debian",
          "source": {
            "recipe": "/base/recipe"
          },
          "packages": [],
          "seed": "credentials"
        }
      },
      "domains": {
        "web": {
          "name": "web",
          "image": "debian",
          "firmware": "seabios",
          "boot": "kernel",
          "machine": "pc",
          "memory": {
            "current": 536870912,
            "maximum": 1073741824
          },
          "vcpus": {
            "current": 1,
            "maximum": 2
          },
          "system_disk": 4294967296,
          "volumes": [
            {
              "name": "data",
              "size": 1073741824,
              "mount": "/var/lib/web"
            }
          ],
          "depends_on": [],
          "service": {
            "binary": "/base/web",
            "port": 50051,
            "health": "web.Web",
            "environment": {
              "A": "1",
              "B": "true"
            },
            "secrets": {},
            "arguments": [],
            "checkpoint": [],
            "start_timeout": null,
            "tls_key_log": false,
            "files": {},
            "setup": [],
            "setup_timeout": null
          },
          "publish": [
            {
              "host": "127.0.0.1:8080",
              "guest_port": 80
            }
          ],
          "boot_timeout": null,
          "push": "auto",
          "address": "10.77.0.202",
          "mac": [
            82,
            84,
            0,
            227,
            21,
            39
          ]
        }
      }
    }
    "#);
}

#[test]
fn a_port_reachable_from_other_machines_must_authenticate_its_clients() {
    let secret = with("A: 1, B: true}", "A: 1}, secrets: {TOKEN: generate}");
    for (text, ports) in [
        (secret.as_str(), "\"0.0.0.0:8080:80\""),
        // Mutual TLS and SSH authenticate clients.
        (
            VALID,
            "\"0.0.0.0:8080:50051\", \"[::]:8022:22\", \"[::1]:80:80\"",
        ),
    ] {
        read(&text.replace("\"8080:80\"", ports)).unwrap();
    }
    insta::assert_snapshot!(shown(&with("\"8080:80\"", "\"0.0.0.0:8080:80\"")), @r#"
    1 error in `/base/topology.yaml`

    topology.yaml:11:15: `0.0.0.0:8080` is reachable from other machines, but `web` does not authenticate its clients
    11 |     publish: ["0.0.0.0:8080:80"]
       |               ^ add `secrets` to its service, such as `{WEB_TOKEN: generate}`, or publish on 127.0.0.1
    "#);
}

#[test]
fn a_file_that_is_not_a_topology_is_rejected() {
    let bomb = format!("a: &a [x, x, x, x, x, x, x, x, x, x]\n{}", {
        let level = |(to, from): (char, char)| {
            format!(
                "{to}: &{to} [{}]\n",
                vec![format!("*{from}"); 10].join(", ")
            )
        };
        ('b'..='g').zip('a'..='f').map(level).collect::<String>()
    });
    let cases = [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n- b\n", "a topology must be a mapping, not a list"),
        ("name: a\n---\nname: b\n", "unexpected second document"),
        ("name: [", "invalid YAML"),
        ("name: *nobody", "invalid YAML"),
        ("a: &a [*a]", "this alias refers to itself"),
        (&"[".repeat(100_000), "recursion limit exceeded"),
        (&bomb, "more than 50000 values"),
        ("? [a]\n: b\n", "cannot be a key"),
    ];
    for (text, words) in cases {
        let shown = shown(text);
        assert!(shown.contains(words), "should say `{words}`:\n{shown}");
    }
}

#[test]
fn merge_keys_and_anchors_work() {
    let text = "\
name: demo
images: {debian: {recipe: recipe}}
domains:
  one: &base
    image: debian
    memory: 256 MiB
  two:
    <<: *base
    vcpus: 2
    memory: 512 MiB
  three:
    memory: 512 MiB
    <<: [*base]
";
    let spec = read(text).unwrap();
    for (name, vcpus) in [("two", 2), ("three", 1)] {
        let domain = &spec.domains[&crate::spec::Name::new(name).unwrap()];
        let own = (domain.memory.current, domain.vcpus.current);
        assert_eq!(own, (crate::spec::Size::mib(512), vcpus), "{name}");
    }
}

#[test]
fn many_faults_are_counted_and_control_characters_are_replaced() {
    let unknown: String = (0..60).map(|index| format!("key{index}: 1\n")).collect();
    let shown = shown(&format!("{VALID}{unknown}\"bell\\a\": 1\n"));
    assert!(
        shown.contains("61 errors") && shown.ends_with("and 11 more\n"),
        "{shown}"
    );
    assert!(!shown.contains('\u{7}'));
}

/// Each was once slow, large or both. How much time and memory they take, `tests/budgets.rs` of pspd measures.
#[test]
fn small_files_that_grow_are_refused_in_few_words() {
    let head = "name: demo\nimages: {debian: {recipe: recipe}}\n";
    let text = "x".repeat(500_000);
    let aliases = "*a, ".repeat(49_000);
    let alias_of_text = format!("{head}domains: {{}}\na: &a {text}\nb: [{aliases}]\n");
    let names: String = (0..900)
        .map(|index| {
            format!(
                "{}{index}: &n{index} {{image: none, depends_on: [nobody]}}, ",
                "n".repeat(50)
            )
        })
        .collect();
    let all_names = format!("{head}domains: {{{names}}}\n");
    let keys: String = (0..5000).map(|index| format!("k{index}: 1, ")).collect();
    let merges = "<<: *a, ".repeat(4000);
    let nested_merges = format!("{head}a: &a {{{keys}}}\nb: {{{merges}}}\n");
    let anchors: String = (0..20).map(|index| format!("&a{index} [")).collect();
    let anchored = format!(
        "{head}a: {anchors}{}{}\n",
        "1, ".repeat(40_000),
        "]".repeat(20)
    );
    let circle: String = (0..1000).map(|index| format!("d{index}: {{image: debian, depends_on: [d{}], service: {{binary: b, port: 1, health: h}}}}, ", (index + 1) % 1000)).collect();
    let circle = format!("{head}domains: {{{circle}}}\n");
    let all: Vec<String> = (0..180).map(|index| format!("d{index}")).collect();
    let list = all.join(", ");
    let dense: String = all.iter().map(|name| format!("{name}: {{image: debian, depends_on: [{list}], service: {{binary: b, port: 1, health: h}}}}, ")).collect();
    let dense = format!("{head}domains: {{{dense}}}\n");
    let ports: Vec<String> = (0..40_000)
        .map(|index| format!("\"127.0.{}.{}:80:50051\"", index / 200, index % 200 + 1))
        .collect();
    let ports = format!(
        "{head}domains: {{web: {{image: debian, publish: [{}]}}}}\nx: 1\n",
        ports.join(", ")
    );
    let many: String = (0..1001)
        .map(|index| format!("d{index}: {{image: debian}}, "))
        .collect();
    let many = format!("{head}domains: {{{many}}}\n");
    let unknown = format!(
        "{head}domains: {{web: {{image: debian, depends_on: [{}]}}}}\n",
        "nobody, ".repeat(40_000)
    );
    let cases = [
        ("aliases of a text", alias_of_text, "4 MiB of text"),
        ("all names in each fault", all_names, "and 892 more"),
        ("merges of merges", nested_merges, "more than 50000 values"),
        ("anchors in anchors", anchored, "more than 50000 values"),
        ("a long circle", circle, "-> (992 more) ->"),
        ("a dense network", dense, "circular dependency"),
        ("many ports", ports, "unknown key `x`"),
        ("many domains", many, "at most 1000 domains, not 1001"),
        ("many faults", unknown, "at least 1000 errors"),
    ];
    for (what, text, says) in cases {
        assert!(text.len() < 1 << 20, "{what}");
        let shown = shown(&text);
        assert!(
            shown.contains(says),
            "{what} should say `{says}`:\n{}",
            &shown[..shown.len().min(2000)]
        );
        assert!(shown.len() < 100_000, "{what}: {} bytes", shown.len());
    }
}

#[test]
fn the_content_of_another_file_is_not_shown() {
    for text in [
        "root:$6$secret$hash:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
        "password: secret\n",
        "{\"private_key\": \"secret\"}\n",
        "name: secret\nsecret: [\n",
        "secret\n",
        "- secret: a\n  b: c: d\n",
    ] {
        let shown = shown(text);
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn text_for_units_has_no_control_characters() {
    for (escape, says) in [
        ("\\r", "U+000D"),
        ("\\n", "a line break"),
        ("\\0", "U+0000"),
        ("\\e", "U+001B"),
        ("\\x7f", "U+007F"),
        ("\\x9b", "U+009B"),
        ("\\uffff", "U+FFFF"),
    ] {
        for key in [
            "arguments: [A]",
            "checkpoint: [A]",
            "environment: {A: A}",
            "health: A",
            "files: {a: A}",
        ] {
            let key = key.replace('A', &format!("\"a{escape}b\""));
            let text = VALID.replace(
                "health: web.Web, environment: {A: 1, B: true}",
                &match key.starts_with("health") {
                    true => key.clone(),
                    false => format!("health: web.Web, {key}"),
                },
            );
            let shown = shown(&text);
            assert!(shown.contains(says), "{key} should say {says}:\n{shown}");
        }
    }
    read(&VALID.replace("A: 1", "A: \"tab\\tquote\\\"\"")).unwrap();
}

#[test]
fn a_dependency_cycle_is_reported() {
    let domain = |name: &str, on: &str| {
        format!(
            "  {name}: {{image: debian, depends_on: [{on}], service: {{binary: b, port: 1, health: h}}}}\n"
        )
    };
    let text = format!(
        "name: demo\nimages: {{debian: {{recipe: recipe}}}}\ndomains:\n{}{}{}",
        domain("a", "b"),
        domain("b", "c"),
        domain("c", "a")
    );
    assert!(shown(&text).contains("a -> b -> c -> a"));
}

#[test]
fn each_of_two_peers_is_one() {
    let domain = |name: &str, peers: &str| {
        format!(
            "  {name}: {{image: debian, peers: [{peers}], service: {{binary: b, port: 1, health: h}}}}\n"
        )
    };
    let text = format!(
        "name: demo\ndomains:\n{}{}{}{}",
        domain("a", "b"),
        domain("b", "a, a"),
        domain("c", "a"),
        domain("d", "")
    );
    let spec = read(&text).unwrap();
    let peers = |name: &str| {
        let peers = &spec.domains[&Name::new(name).unwrap()].peers;
        peers.iter().map(Name::as_str).collect::<Vec<_>>()
    };
    assert_eq!(peers("a"), ["b", "c"]);
    assert_eq!(peers("b"), ["a"]);
    assert_eq!(peers("c"), ["a"]);
    assert!(peers("d").is_empty());
}

#[test]
fn the_built_in_image_needs_no_entry() {
    let text = "name: demo\ndomains:\n  a: {image: debian}\n  b: {image: {builtin: debian, packages: [nginx]}}\n";
    let spec = read(text).unwrap();
    let sources: Vec<_> = spec.images.values().map(|image| &image.source).collect();
    let built = &ImageSource::Builtin(Builtin::Debian);
    assert_eq!(sources, [built, built]);
    let of_domain = |name: &str| &spec.images[&spec.domains[&Name::new(name).unwrap()].image];
    let packages = |name: &str| of_domain(name).packages.iter().collect::<Vec<_>>();
    assert!(packages("a").is_empty());
    assert_eq!(packages("b"), ["nginx"]);
}

#[test]
fn the_image_of_one_domain_must_have_a_name_of_its_own() {
    let text = "name: demo\nimages:\n  web: {recipe: recipe}\ndomains:\n  web: {image: {builtin: debian}}\n  debian: {image: {builtin: debian}}\n";
    let shown = shown(text);
    for name in ["web", "debian"] {
        let message = format!("there is another image with the name `{name}`");
        assert!(shown.contains(&message), "{shown}");
    }
}

#[test]
fn an_entry_takes_the_place_of_the_built_in_image() {
    let spec = read(VALID).unwrap();
    let source = &spec.images["debian"].source;
    assert!(matches!(source, ImageSource::Recipe(_)), "{source:?}");
}

#[test]
fn the_schema_file_is_the_schema() {
    let text = include_str!("../../../../../docs/topology.schema.json");
    assert!(
        text == schema(),
        "it is outdated: run `pspd schema > docs/topology.schema.json`"
    );
}

#[test]
fn the_reference_names_every_key() {
    fn keys(object: &super::keys::Object, names: &mut Vec<&'static str>) {
        use super::keys::Kind;
        fn kind(of: &'static Kind, names: &mut Vec<&'static str>) {
            match of {
                Kind::Object(object) => keys(object, names),
                Kind::Named(item) | Kind::List(item) => kind(item, names),
                Kind::Either(kinds) => kinds.iter().for_each(|item| kind(item, names)),
                _ => {}
            }
        }
        for key in object.keys {
            names.push(key.name);
            match &key.kind {
                Kind::Object(object) => keys(object, names),
                Kind::Named(item) | Kind::List(item) => kind(item, names),
                Kind::Either(kinds) => kinds.iter().for_each(|item| kind(item, names)),
                _ => {}
            }
        }
    }
    let text = include_str!("../../../../../docs/topology.md");
    let mut names = Vec::new();
    keys(&super::keys::TOPOLOGY, &mut names);
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn no_yaml_shaped_text_panics(lines in prop::collection::vec("[ ]{0,4}(name|images|domains|web|image|memory|disks|service|publish|&a|\\*a|-|<<)?:? ?[\\[\\]{}a-z0-9:., ]{0,12}", 0..20)) {
        let _ = read(&lines.join("\n"));
    }
}

/// A host whose files have these texts.
struct Texts(BTreeMap<&'static str, &'static str>);

impl Host for Texts {
    fn look(&self, path: &Path) -> Found {
        look(path)
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let text = path.to_str().and_then(|path| self.0.get(path));
        text.map(|text| (*text).to_owned())
            .ok_or_else(|| "it cannot be read".to_owned())
    }
}

#[test]
fn later_files_and_the_topology_go_before_earlier_ones() {
    let environment = |key: &str, texts: &[(&'static str, &'static str)]| {
        let text = with("binary: web", &format!("binary: web, {key}"));
        let host = Texts(texts.iter().copied().collect());
        let spec = parse_on(&text, Path::new("/base"), &host)?;
        let service = spec.domains[&Name::new("web").unwrap()].service.clone();
        Ok::<_, Vec<Fault>>(service.unwrap().environment)
    };
    let texts = [
        ("/base/one", "A=file\nC=1\nD=1\n"),
        ("/base/two", "# later\nD='2'\n"),
    ];
    let read = environment("env_file: [one, two]", &texts).unwrap();
    let expected = [("A", "1"), ("B", "true"), ("C", "1"), ("D", "2")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(read, BTreeMap::from(expected));
    for (text, message) in [
        ("A", "`/base/one`: line 1: it has no `=`"),
        (
            "\nPSPD_NAME=x",
            "`/base/one`: line 2: `PSPD_NAME` is reserved",
        ),
        ("1A=x", "`/base/one`: line 1: `1A` is not a valid"),
        (
            "A=a\u{1}b",
            "`/base/one`: line 1: `A` contains the character U+0001",
        ),
    ] {
        let faults = environment("env_file: one", &[("/base/one", text)]).unwrap_err();
        assert!(faults[0].message.starts_with(message), "{faults:?}");
    }
    let faults = environment("env_file: one, secrets: {C: generate}", &texts).unwrap_err();
    assert_eq!(faults[0].message, "duplicate key `C`");
    let many = format!("env_file: [{}]", vec!["one"; 17].join(", "));
    let faults = environment(&many, &texts).unwrap_err();
    assert_eq!(faults[0].message, "`env_file` has at most 16 files, not 17");
    let faults = environment("env_file: three", &texts).unwrap_err();
    assert_eq!(faults[0].message, "`/base/three`: it cannot be read");
    let large: &'static str = format!("L={}\n", "l".repeat(100_000)).leak();
    let faults = environment("env_file: [l, l, l, l]", &[("/base/l", large)]).unwrap_err();
    assert_eq!(
        faults[0].message,
        "`/base/l`: with it, the services read more than 256 KiB of environment files"
    );
}

#[test]
fn a_topology_has_no_more_files_than_an_archive_of_it() {
    let files = |count: usize| {
        let files: Vec<String> = (0..count).map(|index| format!("f{index}: web")).collect();
        let key = format!("binary: web, files: {{{}}}", files.join(", "));
        read(&with("binary: web", &key))
    };
    assert!(files(2000).is_ok());
    let faults = files(2001).unwrap_err();
    assert_eq!(
        faults[0].message,
        "the `files` of all services are at most 2000, not 2001"
    );
}
