//! What a wrong topology is told: each fault by itself, many at once, and those between domains.

use super::*;

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
      |                    ^ it is a folder with a `build.sh`; see images/ of pspd

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
       |               ^ it can be: seabios, coreboot, uefi
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
        "image: debian\n    firmware: coreboot\n    machine: pc",
        "built for the board `q35`, and a ROM of one board hangs on another",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {coreboot: {payload: grub}}",
        "payload cannot be `grub`",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {coreboot: {cmdline: quiet}}",
        "only `payload: linux` has a `cmdline`",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {coreboot: {payload: linux}}\n    boot: disk",
        "`boot` has no meaning under `payload: linux`",
    ),
    (
        "memory: {current: 512 MiB, maximum: 1 GiB}",
        "firmware: {coreboot: {payload: linux}}\n    memory: 128 MiB",
        "128 MiB is too little to boot with; give at least 256 MiB",
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
        "\"8080:80\"",
        "\"192.0.2.1:8080:80\"",
        "lets other machines in, and `web` has no secret",
    ),
    // No mutual TLS, as far as pspd knows.
    (
        "health: web.Web, environment: {A: 1, B: true}}\n    publish: [\"8080:80\"]",
        "health: tcp}\n    publish: [\"192.0.2.1:8080:50051\"]",
        "lets other machines in, and `web` has no secret",
    ),
    (
        "{recipe: recipe}",
        "{recipe: recipe, packages: [less, 'a;b']}",
        "`a;b` is no package's name",
    ),
    (
        "{recipe: recipe}",
        "{path: disk, sha256: 0000000000000000000000000000000000000000000000000000000000000000, packages: [less]}",
        "an image of a `path` has no `packages`",
    ),
    (
        "B: true}",
        "B: true}, secrets: {B: generate}",
        "`B` is there twice",
    ),
    (
        "B: true}",
        "B: true}, secrets: {PSPD_TOKEN: generate}",
        "is reserved",
    ),
    (
        "B: true}",
        "B: true}, secrets: {T: hunter2}",
        "a secret cannot be `hunter2`",
    ),
    (
        "B: true}",
        "B: true}, secrets: {T: {file: missing}}",
        "there is no file `/base/missing`",
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
