//! Faults as users see them, and properties of what is accepted.

use std::path::Path;

use proptest::prelude::*;

use super::*;

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

/// A host where folders are named `recipe`, and every other path is a file but `missing`.
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
            "maximum": 1
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
            "arguments": [],
            "files": {}
          },
          "publish": [
            {
              "host": "127.0.0.1:8080",
              "guest_port": 80
            }
          ],
          "boot_timeout": null,
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
fn every_fault_is_told_at_once_with_its_place() {
    let text = "\
name: Demo
conection: lab
network: {cidr: 10.0.0.1/24}
images:
  debian: {recipe: missing}
  other: {path: other.qcow2}
domains:
  web:
    image: debain
    memroy: 1 GiB
    memory: 512
    depends_on: [stroe]
    service: {binary: missing, port: 22, health: web.Web}
  web:
    image: debian
  -bad-:
    image: debian
    firmware: bios
";
    insta::assert_snapshot!(shown(text), @"
    `/base/topology.yaml` has 14 faults

    topology.yaml:1:7: `Demo` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, with no - at either end
    1 | name: Demo
      |       ^

    topology.yaml:2:1: a topology has no key `conection`
    2 | conection: lab
      | ^ did you mean `connection`?

    topology.yaml:3:17: `10.0.0.1/24` has host bits set; the network is `10.0.0.0/24`
    3 | network: {cidr: 10.0.0.1/24}
      |                 ^

    topology.yaml:5:20: there is no folder `/base/missing`
    5 |   debian: {recipe: missing}
      |                    ^ it is a folder with a `build` script; see images/ of pspd

    topology.yaml:6:10: the image `other` needs `sha256`
    6 |   other: {path: other.qcow2}
      |          ^ `sha256sum FILE` tells it

    topology.yaml:9:12: there is no image `debain`
    9 |     image: debain
      |            ^ did you mean `debian`?

    topology.yaml:10:5: a domain has no key `memroy`
    10 |     memroy: 1 GiB
       |     ^ did you mean `memory`?

    topology.yaml:11:13: `512` has no unit; write `512 MiB` or `512 GiB`
    11 |     memory: 512
       |             ^

    topology.yaml:12:18: there is no domain `stroe`
    12 |     depends_on: [stroe]
       |                  ^ it can be: -bad-, web

    topology.yaml:13:23: there is no file `/base/missing`
    13 |     service: {binary: missing, port: 22, health: web.Web}
       |                       ^ build it, or name the executable that is there

    topology.yaml:13:38: port 22 is reserved for SSH
    13 |     service: {binary: missing, port: 22, health: web.Web}
       |                                      ^ take another one, such as 50051

    topology.yaml:14:3: `web` is there twice
    14 |   web:
       |   ^ the first is on line 8

    topology.yaml:16:3: `-bad-` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, with no - at either end
    16 |   -bad-:
       |   ^

    topology.yaml:18:15: firmware cannot be `bios`
    18 |     firmware: bios
       |               ^ it can be: seabios, uefi
    ");
}

/// One fault each: what is replaced, and words of the message.
const FAULTS: &[(&str, &str, &str)] = &[
    (
        "name: demo",
        "name: [demo]",
        "name is a text, and this is a list",
    ),
    (
        "name: demo",
        "name: demo\nconnection: qemu+ssh://host/system",
        "is on another host",
    ),
    (
        "name: demo",
        "name: demo\nconnection: docker",
        "connection cannot be `docker`",
    ),
    (
        "name: demo",
        "name: demo\naccel: fast",
        "accel cannot be `fast`",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {cidr: 10.0.0.0/30}",
        "unusable size",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {domain: Not_DNS}",
        "is no DNS domain",
    ),
    (
        "{recipe: recipe}",
        "{}",
        "needs one of `recipe`, `path` and `url`",
    ),
    (
        "{recipe: recipe}",
        "{recipe: missing}",
        "there is no folder `/base/missing`",
    ),
    (
        "{recipe: recipe}",
        "{recipe: recipe, sha256: 00}",
        "a recipe has no `sha256`",
    ),
    ("{recipe: recipe}", "{path: image.qcow2}", "needs `sha256`"),
    (
        "{recipe: recipe}",
        "{path: image.qcow2, sha256: 00}",
        "64 hexadecimal digits",
    ),
    (
        "{recipe: recipe}",
        "{url: 'file:///image', sha256: 0000000000000000000000000000000000000000000000000000000000000000}",
        "no http or https URL",
    ),
    (
        "image: debian",
        "image: debain",
        "there is no image `debain`",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: coreboot",
        "does not build coreboot yet",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {rom: missing, sha256: 0000000000000000000000000000000000000000000000000000000000000000}",
        "there is no file `/base/missing`",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: uefi\n    machine: pc",
        "uefi does not run on `pc`",
    ),
    (
        "image: debian",
        "image: debian\n    address: 10.78.0.5",
        "outside of the network",
    ),
    (
        "image: debian",
        "image: debian\n    address: 10.77.0.1",
        "the gateway's address",
    ),
    (
        "image: debian",
        "image: debian\n    address: 10.77.0.255",
        "broadcast",
    ),
    (
        "image: debian",
        "image: debian\n    address: here",
        "no IPv4 address",
    ),
    (
        "image: debian",
        "image: debian\n    depends_on: [web]",
        "the dependencies go in a circle: web -> web",
    ),
    (
        "image: debian",
        "image: debian\n    depends_on: [wep]",
        "there is no domain `wep`",
    ),
    (
        "image: debian",
        "image: debian\n    depends_on: web",
        "depends_on is a list",
    ),
    (
        "image: debian",
        "image: debian\n    boot_timeout: 30",
        "no duration",
    ),
    (
        "image: debian",
        "image: debian\n    vcpus: 0",
        "a number from 1 to 255",
    ),
    (
        "image: debian",
        "image: debian\n    vcpus: {current: 3, maximum: 2}",
        "more than the maximum",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "512",
        "`512` has no unit",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "{current: 2 GiB, maximum: 1 GiB}",
        "more than the maximum",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "16 MiB",
        "too little to boot with",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "100.5 MB",
        "whole MiB",
    ),
    ("data: {", "a-name-that-is-much-too-long: {", "is too long"),
    ("mount: /var/lib/web", "mount: var/lib", "no absolute path"),
    (
        "mount: /var/lib/web",
        "mount: /var/../etc",
        "no absolute path",
    ),
    (
        "binary: web",
        "binary: missing",
        "there is no file `/base/missing`",
    ),
    ("port: 50051", "port: 22", "reserved for SSH"),
    ("port: 50051", "port: 70000", "a number from 1 to 65535"),
    ("A: 1", "PSPD_NAME: 1", "is reserved"),
    ("A: 1", "1A: 1", "no environment variable's name"),
    ("\"8080:80\"", "\"8080\"", "no published port"),
    (
        "\"8080:80\"",
        "\"8080:80\", \"127.0.0.1:8080:81\"",
        "published twice",
    ),
    (
        "binary: web",
        "binary: web, files: {/etc/passwd: file}",
        "is no path of letters",
    ),
    (
        "binary: web",
        "binary: web, files: {tls/key.pem: file}",
        "pspd itself uses",
    ),
    (
        "\"8080:80\"",
        "\"127.0.0.1:80:80\", \"127.0.0.2:80:80\", \"127.0.0.1:80:81\"",
        "published twice",
    ),
    (
        "domains:",
        "extra: 1\ndomains:",
        "a topology has no key `extra`",
    ),
    (
        "    publish",
        "    service: {}\n    publish",
        "`service` is there twice",
    ),
];

#[test]
fn each_fault_has_words_of_its_own() {
    read(VALID).expect("the base is valid");
    for (from, to, words) in FAULTS {
        let text = with(from, to);
        let shown = shown(&text);
        assert!(
            shown.contains(words),
            "`{to}` should say `{words}`:\n{shown}"
        );
        assert!(
            shown.contains("has a fault\n"),
            "`{to}` should be one fault:\n{shown}"
        );
    }
}

#[test]
fn faults_between_domains_show_beside_those_of_their_own() {
    let text = "\
name: demo
images: {debian: {recipe: recipe}}
domains:
  a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
  b: {image: debian, vcpus: 0, depends_on: [a], publish: ['80:80']}
  b: {image: debian, boot: floppy}
  c: {image: debian, depends_on: [c], publish: ['80:81']}
  pspd: {image: debian}
";
    insta::assert_snapshot!(shown(text), @"
    `/base/topology.yaml` has 12 faults

    topology.yaml:4:30: `1` has no unit; write `1 MiB` or `1 GiB`
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                              ^

    topology.yaml:4:46: `a` cannot wait for `b`, which has no service to become healthy
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                                              ^ give it a `service`, or do not wait for it

    topology.yaml:4:46: the dependencies go in a circle: a -> b -> a
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                                              ^ remove one of them

    topology.yaml:4:59: `10.0.0.1` is outside of the network `10.77.0.0/24`
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                                                           ^

    topology.yaml:5:29: vcpus is a number from 1 to 255, and this is `0`
    5 |   b: {image: debian, vcpus: 0, depends_on: [a], publish: ['80:80']}
      |                             ^

    topology.yaml:5:45: `b` cannot wait for `a`, which has no service to become healthy
    5 |   b: {image: debian, vcpus: 0, depends_on: [a], publish: ['80:80']}
      |                                             ^ give it a `service`, or do not wait for it

    topology.yaml:6:3: `b` is there twice
    6 |   b: {image: debian, boot: floppy}
      |   ^ the first is on line 5

    topology.yaml:6:28: boot cannot be `floppy`
    6 |   b: {image: debian, boot: floppy}
      |                            ^ it can be: kernel, disk

    topology.yaml:7:35: `c` cannot wait for `c`, which has no service to become healthy
    7 |   c: {image: debian, depends_on: [c], publish: ['80:81']}
      |                                   ^ give it a `service`, or do not wait for it

    topology.yaml:7:35: the dependencies go in a circle: c -> c
    7 |   c: {image: debian, depends_on: [c], publish: ['80:81']}
      |                                   ^ remove one of them

    topology.yaml:7:49: `127.0.0.1:80` is published twice: by `b` too
    7 |   c: {image: debian, depends_on: [c], publish: ['80:81']}
      |                                                 ^ take another port of the host

    topology.yaml:8:3: the domain name `pspd` is reserved
    8 |   pspd: {image: debian}
      |   ^ services know pspd itself by it
    ");
}

#[test]
fn what_is_no_topology_at_all_is_refused() {
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
        ("- a\n- b\n", "a topology is a mapping, and this is a list"),
        ("name: a\n---\nname: b\n", "a second document"),
        ("name: [", "this is not YAML"),
        ("name: *nobody", "this is not YAML"),
        ("a: &a [*a]", "this alias is used inside of what it names"),
        (&"[".repeat(100_000), "this is"),
        (&bomb, "more than 50000 values"),
        ("? [a]\n: b\n", "can be no key"),
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
fn many_faults_are_counted_and_control_characters_stay_out() {
    let unknown: String = (0..60).map(|index| format!("key{index}: 1\n")).collect();
    let shown = shown(&format!("{VALID}{unknown}\"bell\\a\": 1\n"));
    assert!(
        shown.contains("61 faults") && shown.ends_with("and 11 more\n"),
        "{shown}"
    );
    assert!(!shown.contains('\u{7}'));
}

#[test]
fn a_cycle_is_named() {
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
fn a_large_file_is_refused_without_being_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(100 << 20).unwrap();
    assert!(
        load(file.path())
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
}

#[test]
fn the_starter_is_valid() {
    let spec = read(starter()).unwrap();
    assert_eq!(spec.name.as_str(), "demo");
}

#[test]
fn the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for (file, domains) in [("one.yaml", 1), ("ten.yaml", 10)] {
        let spec = load(&folder.join(file)).unwrap();
        assert_eq!(spec.domains.len(), domains, "{file}");
    }
}

#[test]
fn the_schema_file_is_the_schema() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/topology.schema.json");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(
        text == schema(),
        "write it anew: pspd schema > docs/topology.schema.json"
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
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/topology.md"))
            .unwrap();
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
