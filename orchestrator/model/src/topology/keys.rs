//! The table of all keys of a topology, used by the validation and the schema.

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Any string, with an example.
    Text {
        example: &'static str,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    Number {
        least: u64,
        most: u64,
    },
    Size,
    Duration,
    Bool,
    /// String, number or boolean, read as a string.
    Scalar,
    List(&'static Kind),
    /// A mapping with user-defined names and values of this type.
    Named(&'static Kind),
    Object(&'static Object),
    /// One of these types.
    Either(&'static [Kind]),
}

/// A mapping with fixed keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// The noun for messages.
    pub title: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub about: &'static str,
}

pub(crate) const fn required(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        required: true,
        about,
    }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        required: false,
        about,
    }
}

pub(super) static TOPOLOGY: Object = Object {
    title: "a topology",
    keys: &[
        required(
            "name",
            Kind::Text {
                example: "reference",
            },
            "The name of the deployment and its network, a DNS label.",
        ),
        optional(
            "connection",
            Kind::Text { example: "lab" },
            "Where domains run: `lab`, a libvirtd of the deployment in private namespaces, or the URI of a libvirtd on this host, such as `qemu:///system`. Default: lab.",
        ),
        optional(
            "hosts",
            Kind::Named(&Kind::Object(&HOST)),
            "The machines that run the domains, by names of your choice: others, which are reached by SSH. Default: this machine.",
        ),
        optional(
            "accel",
            Kind::Word(&["auto", "kvm", "tcg"]),
            "`auto` uses KVM if a test guest boots with it, else emulation (`tcg`). Default: auto.",
        ),
        optional(
            "autostart",
            Kind::Bool,
            "Whether the deployment starts with its host: with a libvirt URI by libvirt, in a lab by the unit of `pspd service install`. Default: false.",
        ),
        optional(
            "network",
            Kind::Object(&NETWORK),
            "The network of all domains.",
        ),
        optional(
            "images",
            Kind::Named(&Kind::Object(&IMAGE)),
            "Guest images by name, in addition to the built-in image `debian`.",
        ),
        required(
            "domains",
            Kind::Named(&Kind::Object(&DOMAIN)),
            "Virtual machines by name. The name is a DNS label, and the guest's host name.",
        ),
    ],
};

pub(super) static HOST: Object = Object {
    title: "a host",
    keys: &[
        required(
            "ssh",
            Kind::Text {
                example: "user@alpha",
            },
            "Where `ssh` finds it: `[USER@]ADDRESS`, or a name of the SSH configuration. Its key must be known, and it must accept one of yours.",
        ),
        optional(
            "port",
            Kind::Number {
                least: 1,
                most: 65_535,
            },
            "The port of its SSH server. Default: that of the SSH configuration, else 22.",
        ),
        optional(
            "config",
            Kind::Text {
                example: "ssh_config",
            },
            "A file that `ssh` reads in the place of your own configuration, with keys, known hosts or a jump host.",
        ),
    ],
};

pub(super) static NETWORK: Object = Object {
    title: "a network",
    keys: &[
        optional(
            "cidr",
            Kind::Text {
                example: "10.77.0.0/24",
            },
            "The IPv4 network. The first address is the gateway, which serves DNS and DHCP. Default: 10.77.0.0/24.",
        ),
        optional(
            "domain",
            Kind::Text {
                example: "pspd.internal",
            },
            "The DNS domain of the guests' names. Default: pspd.internal.",
        ),
    ],
};

pub(super) static IMAGE: Object = Object {
    title: "an image",
    keys: &[
        optional(
            "builtin",
            Kind::Word(&["debian"]),
            "A recipe that pspd carries: Debian, made for a quick start. The image is built once.",
        ),
        optional(
            "recipe",
            Kind::Text {
                example: "images/debian",
            },
            "The directory of a recipe, from which the image is built. The image is cached by the digest of the recipe's files.",
        ),
        optional(
            "packages",
            Kind::List(&Kind::Text {
                example: "postgresql-17",
            }),
            "With `builtin` or `recipe`: additional packages of the distribution.",
        ),
        optional(
            "path",
            Kind::Text {
                example: "debian.qcow2",
            },
            "A disk image on this host, qcow2 or raw; needs `sha256`.",
        ),
        optional(
            "url",
            Kind::Text {
                example: "https://example.org/debian.qcow2",
            },
            "A disk image to download; needs `sha256`.",
        ),
        optional(
            "sha256",
            Kind::Text {
                example: "64 hexadecimal digits",
            },
            "The digest that the file must have.",
        ),
        optional(
            "seed",
            Kind::Word(&["credentials", "nocloud"]),
            "How guests receive their name, address and keys: `credentials` (systemd credentials in SMBIOS strings, for images that pspd builds) or `nocloud` (a NoCloud volume for cloud-init, for stock cloud images). Default: nocloud with `path` or `url`, else credentials.",
        ),
    ],
};

pub(super) static DOMAIN: Object = Object {
    title: "a domain",
    keys: &[
        required(
            "image",
            Kind::Either(&[Kind::Text { example: "debian" }, Kind::Object(&IMAGE)]),
            "The guest image: `debian`, which is built in, the name of an image in `images`, or an image of this domain alone.",
        ),
        optional(
            "firmware",
            Kind::Either(&[
                Kind::Word(&["seabios", "coreboot", "uefi"]),
                Kind::Object(&COREBOOT),
                Kind::Object(&ROM),
            ]),
            "The firmware: `seabios`, `coreboot`, `uefi`, or a custom ROM. Default: seabios.",
        ),
        optional(
            "boot",
            Kind::Word(&["kernel", "disk"]),
            "`kernel`: the hypervisor loads the image's kernel; `disk`: the image's boot loader does. Not used with coreboot's `payload: linux`, whose kernel is in the ROM. Default: kernel for an image that pspd builds, else disk.",
        ),
        optional(
            "machine",
            Kind::Word(&["pc", "q35"]),
            "The emulated machine type. Default: pc for seabios, else q35.",
        ),
        optional(
            "memory",
            Kind::Either(&[Kind::Size, Kind::Object(&MEMORY)]),
            "Memory. It can grow up to `maximum` without a restart. Default: 512 MiB.",
        ),
        optional(
            "vcpus",
            Kind::Either(&[
                Kind::Number {
                    least: 1,
                    most: 255,
                },
                Kind::Object(&VCPUS),
            ]),
            "Virtual CPUs. Their number can grow up to `maximum` without a restart. Default: 1.",
        ),
        optional(
            "disks",
            Kind::Named(&Kind::Either(&[Kind::Size, Kind::Object(&VOLUME)])),
            "`system` is the size of the system disk, which a rebuild replaces (default: 4 GiB). Every other name is a data volume, which `down` keeps.",
        ),
        optional(
            "host",
            Kind::Text { example: "alpha" },
            "The one of `hosts` that runs the domain. Default: where it was, or else one with room for it.",
        ),
        optional(
            "depends_on",
            Kind::List(&Kind::Text {
                example: "database-server",
            }),
            "Domains whose services must be healthy before this one's service starts.",
        ),
        optional(
            "peers",
            Kind::List(&Kind::Text { example: "db-2" }),
            "Domains whose services and this one's may call each other, without an order of start. Each of two peers has the other, whichever names it.",
        ),
        optional(
            "service",
            Kind::Object(&SERVICE),
            "The service that runs in the domain.",
        ),
        optional(
            "publish",
            Kind::List(&Kind::Either(&[
                Kind::Text {
                    example: "127.0.0.1:8080:8080",
                },
                Kind::Object(&FRONT),
            ])),
            "Ports of the guest to publish on the host, as `[ADDRESS:]HOST_PORT:GUEST_PORT` (default address: 127.0.0.1), or HTTP servers of the guest behind a reverse proxy.",
        ),
        optional(
            "address",
            Kind::Text {
                example: "10.77.0.10",
            },
            "A fixed address in the network. Default: an address derived from the name, which rarely changes when domains are added.",
        ),
        optional(
            "boot_timeout",
            Kind::Duration,
            "The deadline for the guest's first SSH answer. Default: 20s, or 2m under emulation.",
        ),
        optional(
            "push",
            Kind::Word(&["auto", "ssh"]),
            "How the service's files reach the guest: `auto` uses a read-only disk where the guest can read it, else SSH; `ssh` uses SSH, and the domain has no such disk. Default: auto.",
        ),
    ],
};

pub(super) static FRONT: Object = Object {
    title: "a published HTTP server",
    keys: &[
        required(
            "http",
            Kind::Number {
                least: 1,
                most: 65535,
            },
            "The port in the guest, whose server speaks HTTP without TLS.",
        ),
        required(
            "listen",
            Kind::Text {
                example: "0.0.0.0:8080",
            },
            "The listening address on the host, as `[ADDRESS:]PORT`. Default address: 127.0.0.1.",
        ),
        optional(
            "hosts",
            Kind::List(&Kind::Text {
                example: "app.example.org",
            }),
            "The host names that are answered; requests for others get the status 421. Default: every name.",
        ),
        optional(
            "tls",
            Kind::Either(&[Kind::Word(&["self-signed"]), Kind::Object(&FRONT_TLS)]),
            "Serves HTTPS with a certificate: `self-signed` by the deployment's authority, or from PEM files. Default: plain HTTP.",
        ),
    ],
};

pub(super) static FRONT_TLS: Object = Object {
    title: "a certificate",
    keys: &[
        required(
            "cert",
            Kind::Text {
                example: "fullchain.pem",
            },
            "A PEM file with the certificate, followed by those of its issuers.",
        ),
        required(
            "key",
            Kind::Text {
                example: "privkey.pem",
            },
            "A PEM file with the certificate's private key.",
        ),
    ],
};

pub(super) static COREBOOT: Object = Object {
    title: "a coreboot firmware",
    keys: &[required(
        "coreboot",
        Kind::Object(&PAYLOAD),
        "coreboot, built by pspd. The value `coreboot` is short for `{coreboot: {payload: seabios}}`.",
    )],
};

pub(super) static PAYLOAD: Object = Object {
    title: "the coreboot options",
    keys: &[
        optional(
            "payload",
            Kind::Word(&["seabios", "linux"]),
            "The payload that coreboot starts: `seabios`, or `linux`, the image's kernel and initramfs in the ROM. Default: seabios.",
        ),
        optional(
            "cmdline",
            Kind::Text {
                example: "quiet panic=10",
            },
            "With `payload: linux`: arguments appended to the image's kernel command line.",
        ),
    ],
};

pub(super) static ROM: Object = Object {
    title: "a ROM",
    keys: &[
        required(
            "rom",
            Kind::Text {
                example: "firmware/coreboot.rom",
            },
            "The path of the ROM.",
        ),
        required(
            "sha256",
            Kind::Text {
                example: "64 hexadecimal digits",
            },
            "The digest that the file must have.",
        ),
    ],
};

pub(super) static MEMORY: Object = Object {
    title: "memory",
    keys: &[
        required("current", Kind::Size, "The memory that the guest has."),
        optional(
            "maximum",
            Kind::Size,
            "The maximum without a restart. Default: current.",
        ),
    ],
};

pub(super) static VCPUS: Object = Object {
    title: "vCPUs",
    keys: &[
        required(
            "current",
            Kind::Number {
                least: 1,
                most: 255,
            },
            "The number that the guest has.",
        ),
        optional(
            "maximum",
            Kind::Number {
                least: 1,
                most: 255,
            },
            "The maximum without a restart. Default: current.",
        ),
    ],
};

pub(super) static VOLUME: Object = Object {
    title: "a data volume",
    keys: &[
        required(
            "size",
            Kind::Size,
            "The size. It can grow later, but not shrink.",
        ),
        required(
            "mount",
            Kind::Text {
                example: "/var/lib/data",
            },
            "The mount point in the guest.",
        ),
    ],
};

pub(super) static SERVICE: Object = Object {
    title: "a service",
    keys: &[
        optional(
            "binary",
            Kind::Text {
                example: "target/services/database-server",
            },
            "A static executable on this host, or a script whose interpreter is in the guest. A service has either `binary` or `command`.",
        ),
        optional(
            "command",
            Kind::List(&Kind::Scalar),
            "A program of the guest, such as an interpreter, and its arguments. A relative path with a `/` is in the service's working directory, which has its `files`.",
        ),
        required(
            "port",
            Kind::Number {
                least: 1,
                most: 65535,
            },
            "The TCP port in the guest. The service must speak gRPC with mutual TLS, unless `health` is `tcp`.",
        ),
        required(
            "health",
            Kind::Text {
                example: "database.DatabaseService",
            },
            "The service name for `grpc.health.v1` checks, or `tcp` for a service without gRPC, which is healthy while its port accepts connections.",
        ),
        optional(
            "environment",
            Kind::Named(&Kind::Scalar),
            "Environment variables, in addition to those that pspd sets (PSPD_*).",
        ),
        optional(
            "env_file",
            Kind::Either(&[
                Kind::Text { example: ".env" },
                Kind::List(&Kind::Text { example: ".env" }),
            ]),
            "Files on this host with more environment variables, as lines `NAME=VALUE`. A later file replaces values of earlier ones, and `environment` replaces values of files.",
        ),
        optional(
            "secrets",
            Kind::Named(&Kind::Either(&[
                Kind::Word(&["generate"]),
                Kind::Object(&SECRET),
            ])),
            "Environment variables that only the service can read: `generate` creates a random value, which `pspd credentials` exports; `{file: PATH}` reads the value from a file. A port without mutual TLS can be published on other than loopback addresses only if the service has a secret.",
        ),
        optional(
            "arguments",
            Kind::List(&Kind::Scalar),
            "Command line arguments, after those of `command`.",
        ),
        optional(
            "checkpoint",
            Kind::List(&Kind::Scalar),
            "Arguments with which the program, run a second time, writes the running service's data to its files. `pspd export` runs it in the guest before it reads the disks.",
        ),
        optional(
            "start_timeout",
            Kind::Duration,
            "The deadline from the service's start until it is healthy. Default: 10s, or 30s with `health: tcp`; six times as long under emulation.",
        ),
        optional(
            "tls_key_log",
            Kind::Bool,
            "Whether the service logs the keys of its TLS connections (`SSLKEYLOGFILE`), with which `pspd capture --keys` makes captures readable. Default: false.",
        ),
        optional(
            "files",
            Kind::Named(&Kind::Text {
                example: "config.toml",
            }),
            "Files and directories in the service's working directory: the path there, and the path on this host. Of a directory, only what changed is pushed.",
        ),
        optional(
            "setup",
            Kind::List(&Kind::List(&Kind::Scalar)),
            "Commands that run once for each release, in the guest, before it is started: in the working directory, as the service's user, who may write to the directories of `files`.",
        ),
        optional(
            "setup_timeout",
            Kind::Duration,
            "The deadline of all commands of `setup`. Default: 1m, and 6m under emulation.",
        ),
    ],
};

pub(super) static SECRET: Object = Object {
    title: "a secret",
    keys: &[required(
        "file",
        Kind::Text {
            example: "token.txt",
        },
        "A file on this host that holds the value in one line.",
    )],
};
