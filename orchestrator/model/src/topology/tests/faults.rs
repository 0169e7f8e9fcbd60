//! Tests of the errors for invalid topologies: each alone, many at once, and errors between domains.

use super::*;

#[test]
fn all_faults_are_reported_at_once_with_their_positions() {
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
    14 errors in `/base/topology.yaml`

    topology.yaml:1:7: `Demo` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, with no - at either end
    1 | name: Demo
      |       ^

    topology.yaml:2:1: unknown key `conection` in a topology
    2 | conection: lab
      | ^ did you mean `connection`?

    topology.yaml:3:17: `10.0.0.1/24` has host bits set; the network is `10.0.0.0/24`
    3 | network: {cidr: 10.0.0.1/24}
      |                 ^

    topology.yaml:5:20: no such directory: `/base/missing`
    5 |   debian: {recipe: missing}
      |                    ^ a recipe is a directory with a `build.sh`, such as images/debian

    topology.yaml:6:10: image `other` needs `sha256`
    6 |   other: {path: other.qcow2}
      |          ^ run `sha256sum FILE` to get it

    topology.yaml:9:12: unknown image `debain`
    9 |     image: debain
      |            ^ did you mean `debian`?

    topology.yaml:10:5: unknown key `memroy` in a domain
    10 |     memroy: 1 GiB
       |     ^ did you mean `memory`?

    topology.yaml:11:13: `512` has no unit; write `512 MiB` or `512 GiB`
    11 |     memory: 512
       |             ^

    topology.yaml:12:18: unknown domain `stroe`
    12 |     depends_on: [stroe]
       |                  ^ expected one of: -bad-, web

    topology.yaml:13:23: no such file: `/base/missing`
    13 |     service: {binary: missing, port: 22, health: web.Web}
       |                       ^ build it, or use the path of an existing executable

    topology.yaml:13:38: port 22 is reserved for SSH
    13 |     service: {binary: missing, port: 22, health: web.Web}
       |                                      ^ use another port, such as 50051

    topology.yaml:14:3: duplicate key `web`
    14 |   web:
       |   ^ first defined on line 8

    topology.yaml:16:3: `-bad-` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, with no - at either end
    16 |   -bad-:
       |   ^

    topology.yaml:18:15: invalid value `bios` for firmware
    18 |     firmware: bios
       |               ^ expected one of: seabios, coreboot, uefi
    ");
}

/// One fault each: the replaced text, the replacement, and a part of the message.
const FAULTS: &[(&str, &str, &str)] = &[
    (
        "name: demo",
        "name: [demo]",
        "name must be a string, not a list",
    ),
    (
        "name: demo",
        "name: demo\nconnection: qemu+ssh://host/system",
        "is on another host",
    ),
    (
        "name: demo",
        "name: demo\nhosts: {a: {ssh: me@a, port: 22}, b: {ssh: me@a, port: 22}}",
        "`b` is the same machine as `a`",
    ),
    (
        "    image: debian",
        "    image: debian\n    host: a",
        "unknown host `a`",
    ),
    (
        "name: demo",
        "name: demo\nhosts: {a: {ssh: -oProxyCommand=reboot}}",
        "`-oProxyCommand=reboot` is not a destination of `ssh`",
    ),
    (
        "name: demo",
        "name: demo\nhosts: {a: {ssh: me@a@b}}",
        "`me@a@b` is not a destination of `ssh`",
    ),
    (
        "name: demo",
        "name: demo\nhosts: {a: {ssh: me@a, port: 0}}",
        "port must be",
    ),
    (
        "name: demo",
        "name: demo\nhosts: {a: {ssh: me@a, config: missing}}",
        "no such file: `/base/missing`",
    ),
    (
        "name: demo",
        "name: demo\nconnection: qemu:///system\nhosts: {a: {ssh: me@a}}",
        "`hosts` run labs, and the connection is `qemu:///system`",
    ),
    (
        "name: demo",
        "name: demo\nhosts: [a]",
        "hosts must be a mapping, not a list",
    ),
    (
        "name: demo",
        "name: demo\nconnection: docker",
        "invalid value `docker` for connection",
    ),
    (
        "name: demo",
        "name: demo\naccel: fast",
        "invalid value `fast` for accel",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {cidr: 10.0.0.0/30}",
        "too large or too small",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {cidr: 127.0.0.0/8}",
        "has loopback addresses",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {cidr: 0.0.0.0/8}",
        "has addresses of \"this network\"",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {cidr: 239.1.0.0/16}",
        "has multicast addresses",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {cidr: 255.255.255.0/24}",
        "has reserved addresses",
    ),
    (
        "name: demo",
        "name: demo\nconnection: qemu:///system\nnetwork: {cidr: 8.8.8.0/24}",
        "would hide public addresses",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {domain: Not_DNS}",
        "is not a valid DNS domain",
    ),
    (
        "name: demo",
        "name: demo\nnetwork: {domain: label-of-19-letters.label-of-19-letters.label-of-19-letters.label-of-19-letters.label-of-19-letters.label-of-19-letters.label-of-19-letters.label-of-19-letters.label-of-19-letters.ten-letter}",
        "the DNS domain has 190 characters; the maximum is 189",
    ),
    (
        "{recipe: recipe}",
        "{}",
        "needs exactly one of `builtin`, `recipe`, `path` and `url`",
    ),
    (
        "{recipe: recipe}",
        "{builtin: debain}",
        "invalid value `debain` for builtin",
    ),
    (
        "{recipe: recipe}",
        "{builtin: debian, sha256: 00}",
        "`sha256` cannot be used with `builtin`",
    ),
    (
        "image: debian",
        "image: {recipe: missing}",
        "no such directory: `/base/missing`",
    ),
    (
        "image: debian",
        "image: {}",
        "image `web` needs exactly one of",
    ),
    (
        "{recipe: recipe}",
        "{recipe: missing}",
        "no such directory: `/base/missing`",
    ),
    (
        "{recipe: recipe}",
        "{recipe: recipe, sha256: 00}",
        "`sha256` cannot be used with `recipe`",
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
        "is not an http or https URL",
    ),
    ("image: debian", "image: debain", "unknown image `debain`"),
    (
        "image: debian",
        "image: debian\n    firmware: coreboot\n    machine: pc",
        "built for `q35` and does not boot on other machines",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {coreboot: {payload: grub}}",
        "invalid value `grub` for payload",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {coreboot: {cmdline: quiet}}",
        "`cmdline` can be used only with `payload: linux`",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {coreboot: {payload: linux}}\n    boot: disk",
        "`boot` cannot be used with `payload: linux`",
    ),
    (
        "memory: {current: 512 MiB, maximum: 1 GiB}",
        "firmware: {coreboot: {payload: linux}}\n    memory: 128 MiB",
        "128 MiB is not enough memory to boot; use at least 256 MiB",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: {rom: missing, sha256: 0000000000000000000000000000000000000000000000000000000000000000}",
        "no such file: `/base/missing`",
    ),
    (
        "image: debian",
        "image: debian\n    firmware: uefi\n    machine: pc",
        "uefi does not support `machine: pc`",
    ),
    (
        "image: debian",
        "image: debian\n    address: 10.78.0.5",
        "outside the network",
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
        "not a valid IPv4 address",
    ),
    (
        "image: debian",
        "image: debian\n    depends_on: [web]",
        "circular dependency: web -> web",
    ),
    (
        "image: debian",
        "image: debian\n    depends_on: [wep]",
        "unknown domain `wep`",
    ),
    (
        "image: debian",
        "image: debian\n    depends_on: web",
        "depends_on must be a list",
    ),
    (
        "image: debian",
        "image: debian\n    peers: [web]",
        "`web` cannot be a peer of itself",
    ),
    (
        "image: debian",
        "image: debian\n    peers: [wep]",
        "unknown domain `wep`",
    ),
    (
        "image: debian",
        "image: debian\n    peers: web",
        "peers must be a list",
    ),
    (
        "image: debian",
        "image: debian\n    boot_timeout: 30",
        "not a valid duration",
    ),
    (
        "image: debian",
        "image: debian\n    push: disk",
        "invalid value `disk` for push",
    ),
    ("data: {", "pspd-release: {", "`pspd-release` is reserved"),
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
        "not enough memory to boot",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "200.5 MB",
        "whole number of MiB",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "64 MiB",
        "64 MiB is not enough memory to boot; use at least 128 MiB",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "1 TiB",
        "1 TiB is more memory than a domain can have; use at most 512 GiB",
    ),
    (
        "{current: 512 MiB, maximum: 1 GiB}",
        "{current: 512 MiB, maximum: 900 TiB}",
        "900 TiB is more memory than a domain can have",
    ),
    (
        "size: 1 GiB",
        "size: 100 KiB",
        "100 KiB is too small for a file system; use at least 4 MiB",
    ),
    (
        "size: 1 GiB",
        "size: 900 TiB",
        "900 TiB is more than a guest's file system can have; use at most 8 TiB",
    ),
    (
        "data: {size",
        "system: 1 KiB\n      data: {size",
        "1 KiB is too small",
    ),
    ("data: {", "a-name-that-is-much-too-long: {", "is too long"),
    (
        "mount: /var/lib/web",
        "mount: var/lib",
        "not an absolute path",
    ),
    (
        "mount: /var/lib/web",
        "mount: /var/../etc",
        "not an absolute path",
    ),
    (
        "binary: web",
        "binary: missing",
        "no such file: `/base/missing`",
    ),
    ("port: 50051", "port: 22", "reserved for SSH"),
    ("port: 50051", "port: 70000", "a number from 1 to 65535"),
    ("A: 1", "PSPD_NAME: 1", "is reserved"),
    ("A: 1", "1A: 1", "not a valid environment variable name"),
    ("\"8080:80\"", "\"8080\"", "not a valid published port"),
    (
        "\"8080:80\"",
        "\"8080:80\", \"127.0.0.1:8080:81\"",
        "already published by `web`",
    ),
    (
        "binary: web",
        "binary: web, files: {/etc/passwd: file}",
        "is not a relative path of letters",
    ),
    (
        "binary: web",
        "binary: web, files: {tls/key.pem: file}",
        "is reserved for a file of pspd",
    ),
    (
        "\"8080:80\"",
        "\"127.0.0.1:80:80\", \"127.0.0.2:80:80\", \"127.0.0.1:80:81\"",
        "already published by `web`",
    ),
    (
        "\"8080:80\"",
        "\"192.0.2.1:8080:80\"",
        "reachable from other machines, but `web` does not authenticate its clients",
    ),
    // pspd does not know whether a `tcp` service uses mutual TLS.
    (
        "health: web.Web, environment: {A: 1, B: true}}\n    publish: [\"8080:80\"]",
        "health: tcp}\n    publish: [\"192.0.2.1:8080:50051\"]",
        "reachable from other machines, but `web` does not authenticate its clients",
    ),
    (
        "binary: web, ",
        "",
        "a service needs exactly one of `binary` and `command`",
    ),
    (
        "binary: web",
        "binary: web, command: [python3]",
        "a service needs exactly one of `binary` and `command`",
    ),
    (
        "binary: web",
        "command: python3 main.py",
        "a command must be a list",
    ),
    ("binary: web", "command: []", "a command needs a program"),
    ("binary: web", "command: ['']", "a command needs a program"),
    (
        "binary: web",
        "command: [-c]",
        "`-c` is not a program of letters",
    ),
    (
        "binary: web",
        "command: ['a b']",
        "`a b` is not a program of letters",
    ),
    (
        "binary: web",
        "command: [app/run], files: {code: code}",
        "`app/run` is not among the service's `files`",
    ),
    (
        "binary: web",
        "command: [app/../run], files: {app: app}",
        "is not a path of the service's `files`",
    ),
    (
        "binary: web",
        "command: [app/run], files: {app: missing}",
        "no such file or directory: `/base/missing`",
    ),
    (
        "binary: web",
        "command: [app/run], files: {app: a, app/lib: b}",
        "`app/lib` is in `app`, which is also one of the `files`",
    ),
    (
        "binary: web",
        "binary: web, setup: [python3, -m, compileall]",
        "`setup` is a list of commands, each of which is a list",
    ),
    (
        "binary: web",
        "binary: web, setup: [[]]",
        "a command needs a program",
    ),
    (
        "binary: web",
        "binary: web, setup_timeout: soon",
        "`soon` is not a valid duration",
    ),
    (
        "binary: web",
        "binary: web, env_file: missing",
        "no such file: `/base/missing`",
    ),
    (
        "\"8080:80\"",
        "{http: 80}",
        "missing key `listen` in a published HTTP server",
    ),
    (
        "\"8080:80\"",
        "{listen: 8080}",
        "missing key `http` in a published HTTP server",
    ),
    (
        "\"8080:80\"",
        "{http: 0, listen: 8080}",
        "http must be a number from 1 to 65535",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: localhost:80}",
        "`localhost:80` is not a valid address and port; write it like `0.0.0.0:8080`",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, hosts: ['*.example.org']}",
        "`*.example.org` is not a valid host name",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, hosts: ['a.example:80']}",
        "`a.example:80` is not a valid host name",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, hosts: []}",
        "hosts must have at least one name",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, tls: none}",
        "invalid value `none` for tls",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, tls: {cert: cert.pem}}",
        "missing key `key` in a certificate",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, tls: {cert: missing, key: key.pem}}",
        "no such file: `/base/missing`",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: 8080, name: web}",
        "unknown key `name` in a published HTTP server",
    ),
    (
        "\"8080:80\"",
        "\"8080:80\", {http: 81, listen: 8080}",
        "already published by `web`",
    ),
    (
        "\"8080:80\"",
        "{http: 50051, listen: 8080}",
        "port 50051 of `web` is not HTTP: it speaks gRPC with mutual TLS",
    ),
    (
        "\"8080:80\"",
        "{http: 22, listen: 8080}",
        "port 22 of `web` is not HTTP: it speaks SSH",
    ),
    (
        "\"8080:80\"",
        "{http: 80, listen: '192.0.2.1:8080'}",
        "reachable from other machines, but `web` does not authenticate its clients",
    ),
    (
        "{recipe: recipe}",
        "{recipe: recipe, packages: [less, 'a;b']}",
        "`a;b` is not a valid package name",
    ),
    (
        "{recipe: recipe}",
        "{path: disk, sha256: 0000000000000000000000000000000000000000000000000000000000000000, packages: [less]}",
        "`packages` cannot be used with `path`",
    ),
    (
        "B: true}",
        "B: true}, secrets: {B: generate}",
        "duplicate key `B`",
    ),
    (
        "B: true}",
        "B: true}, secrets: {PSPD_TOKEN: generate}",
        "is reserved",
    ),
    (
        "B: true}",
        "B: true}, secrets: {T: hunter2}",
        "invalid value `hunter2` for a secret",
    ),
    (
        "B: true}",
        "B: true}, secrets: {T: {file: missing}}",
        "no such file: `/base/missing`",
    ),
    (
        "B: true}",
        "B: true}, tls_key_log: maybe",
        "invalid value `maybe` for tls_key_log",
    ),
    (
        "B: true}",
        "SSLKEYLOGFILE: /tmp/keys}, tls_key_log: true",
        "`tls_key_log` sets `SSLKEYLOGFILE`, which already has a value",
    ),
    (
        "domains:",
        "extra: 1\ndomains:",
        "unknown key `extra` in a topology",
    ),
    (
        "    publish",
        "    service: {}\n    publish",
        "duplicate key `service`",
    ),
];

#[test]
fn each_fault_has_its_own_message() {
    read(VALID).expect("the base is valid");
    for (from, to, words) in FAULTS {
        let text = with(from, to);
        let shown = shown(&text);
        assert!(
            shown.contains(words),
            "`{to}` should say `{words}`:\n{shown}"
        );
        assert!(
            shown.starts_with("1 error in "),
            "`{to}` should be one error:\n{shown}"
        );
    }
}

#[test]
fn faults_between_domains_are_reported_together_with_faults_within_domains() {
    let text = "\
name: demo
images: {debian: {recipe: recipe}}
domains:
  a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
  b: {image: debian, vcpus: 0, depends_on: [a], publish: ['80:80']}
  b: {image: debian, boot: floppy}
  c: {image: debian, depends_on: [c], publish: ['80:81']}
  d: {image: debian, peers: [a, d]}
  pspd: {image: debian}
";
    insta::assert_snapshot!(shown(text), @"
    14 errors in `/base/topology.yaml`

    topology.yaml:4:30: `1` has no unit; write `1 MiB` or `1 GiB`
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                              ^

    topology.yaml:4:46: `a` cannot depend on `b`, which has no service
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                                              ^ add a `service` to it, or remove the dependency

    topology.yaml:4:46: circular dependency: a -> b -> a
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                                              ^ remove one of these dependencies

    topology.yaml:4:59: `10.0.0.1` is outside the network `10.77.0.0/24`
    4 |   a: {image: debian, memory: 1, depends_on: [b], address: 10.0.0.1}
      |                                                           ^

    topology.yaml:5:29: vcpus must be a number from 1 to 255, not `0`
    5 |   b: {image: debian, vcpus: 0, depends_on: [a], publish: ['80:80']}
      |                             ^

    topology.yaml:5:45: `b` cannot depend on `a`, which has no service
    5 |   b: {image: debian, vcpus: 0, depends_on: [a], publish: ['80:80']}
      |                                             ^ add a `service` to it, or remove the dependency

    topology.yaml:6:3: duplicate key `b`
    6 |   b: {image: debian, boot: floppy}
      |   ^ first defined on line 5

    topology.yaml:6:28: invalid value `floppy` for boot
    6 |   b: {image: debian, boot: floppy}
      |                            ^ expected one of: kernel, disk

    topology.yaml:7:35: `c` cannot depend on `c`, which has no service
    7 |   c: {image: debian, depends_on: [c], publish: ['80:81']}
      |                                   ^ add a `service` to it, or remove the dependency

    topology.yaml:7:35: circular dependency: c -> c
    7 |   c: {image: debian, depends_on: [c], publish: ['80:81']}
      |                                   ^ remove one of these dependencies

    topology.yaml:7:49: `127.0.0.1:80` is already published by `b`
    7 |   c: {image: debian, depends_on: [c], publish: ['80:81']}
      |                                                 ^ use another port of the host

    topology.yaml:8:30: `d` and `a` cannot be peers: `d` has no service
    8 |   d: {image: debian, peers: [a, d]}
      |                              ^ add a `service` to it, or remove the peer

    topology.yaml:8:33: `d` cannot be a peer of itself
    8 |   d: {image: debian, peers: [a, d]}
      |                                 ^ remove it from its `peers`

    topology.yaml:9:3: the domain name `pspd` is reserved
    9 |   pspd: {image: debian}
      |   ^ it is the name of pspd in its client certificate
    ");
}
