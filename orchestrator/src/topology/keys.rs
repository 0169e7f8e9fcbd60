//! Every key that a topology may have: one table, from which validation and schema come.

/// What a key's value is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text; the example says how it looks.
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
    /// Text, number or boolean, taken as text.
    Scalar,
    List(&'static Kind),
    /// Names of the user's own, each with such a value.
    Named(&'static Kind),
    Object(&'static Object),
    /// Whichever fits.
    Either(&'static [Kind]),
}

/// A mapping with fixed keys.
#[derive(Debug)]
pub struct Object {
    /// What it is, for messages.
    pub title: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub about: &'static str,
}

const fn required(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        required: true,
        about,
    }
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        required: false,
        about,
    }
}

pub static TOPOLOGY: Object = Object {
    title: "a topology",
    keys: &[
        required(
            "name",
            Kind::Text {
                example: "reference",
            },
            "The deployment's name, a DNS label; also its network's.",
        ),
        optional(
            "connection",
            Kind::Text { example: "lab" },
            "Where domains live: `lab`, pspd's own libvirtd in private namespaces, or the URI of a libvirt on this host, such as `qemu:///system`. Default: lab.",
        ),
        optional(
            "accel",
            Kind::Word(&["auto", "kvm", "tcg"]),
            "`auto` takes KVM where it is proven to run guests, else emulation (`tcg`). Default: auto.",
        ),
        optional(
            "network",
            Kind::Object(&NETWORK),
            "The one network that all domains are on.",
        ),
        required(
            "images",
            Kind::Named(&Kind::Object(&IMAGE)),
            "Guest images by name.",
        ),
        required(
            "domains",
            Kind::Named(&Kind::Object(&DOMAIN)),
            "Virtual machines by name; a name is a DNS label, and the guest's host name.",
        ),
    ],
};

pub static NETWORK: Object = Object {
    title: "a network",
    keys: &[
        optional(
            "cidr",
            Kind::Text {
                example: "10.77.0.0/24",
            },
            "Its IPv4 addresses; the first is the gateway, which answers DNS and DHCP. Default: 10.77.0.0/24.",
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

pub static IMAGE: Object = Object {
    title: "an image",
    keys: &[
        optional(
            "recipe",
            Kind::Text {
                example: "images/debian",
            },
            "A recipe's folder: the image is built from it, and cached by the digest of its files.",
        ),
        optional(
            "packages",
            Kind::List(&Kind::Text {
                example: "postgresql-17",
            }),
            "With `recipe`: packages of the distribution that the image has beside the recipe's own.",
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
            "A disk image to fetch; needs `sha256`.",
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
            "How guests learn their name, address and keys: by systemd credentials in SMBIOS strings, which recipes' images read, or by a NoCloud volume for cloud-init, which stock cloud images read. Default: credentials for a recipe, else nocloud.",
        ),
    ],
};

pub static DOMAIN: Object = Object {
    title: "a domain",
    keys: &[
        required(
            "image",
            Kind::Text { example: "debian" },
            "A key of `images`.",
        ),
        optional(
            "firmware",
            Kind::Either(&[
                Kind::Word(&["seabios", "coreboot", "uefi"]),
                Kind::Object(&COREBOOT),
                Kind::Object(&ROM),
            ]),
            "What runs before the kernel: `seabios`, `coreboot`, `uefi`, or a ROM of your own. Default: seabios.",
        ),
        optional(
            "boot",
            Kind::Word(&["kernel", "disk"]),
            "`kernel`: the hypervisor starts the image's kernel directly; `disk`: the image's own boot loader does; under coreboot with `payload: linux` the kernel is in the ROM. Default: kernel for a recipe's image, else disk.",
        ),
        optional(
            "machine",
            Kind::Word(&["pc", "q35"]),
            "The emulated board. Default: pc for seabios, else q35.",
        ),
        optional(
            "memory",
            Kind::Either(&[Kind::Size, Kind::Object(&MEMORY)]),
            "Memory; with `maximum`, it can grow so far without a restart. Default: 512 MiB.",
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
            "Virtual CPUs; with `maximum`, they can grow so far without a restart. Default: 1.",
        ),
        optional(
            "disks",
            Kind::Named(&Kind::Either(&[Kind::Size, Kind::Object(&VOLUME)])),
            "`system` is the size of the system disk, which a rebuild replaces (default: 4 GiB); every other name is a data volume, which outlives `down`.",
        ),
        optional(
            "depends_on",
            Kind::List(&Kind::Text {
                example: "database-server",
            }),
            "Domains whose services must be healthy before this one's service starts.",
        ),
        optional(
            "service",
            Kind::Object(&SERVICE),
            "The service that runs in the domain.",
        ),
        optional(
            "publish",
            Kind::List(&Kind::Text {
                example: "127.0.0.1:8080:8080",
            }),
            "Ports of the guest that the host offers, as `[ADDRESS:]HOST_PORT:GUEST_PORT`; without an address, on 127.0.0.1.",
        ),
        optional(
            "address",
            Kind::Text {
                example: "10.77.0.10",
            },
            "A fixed address in the network. Default: one derived from the name, so that other domains rarely move it.",
        ),
        optional(
            "boot_timeout",
            Kind::Duration,
            "How long the guest may take to answer by SSH. Default: 20s, and 2m under emulation.",
        ),
    ],
};

pub static COREBOOT: Object = Object {
    title: "a coreboot",
    keys: &[required(
        "coreboot",
        Kind::Object(&PAYLOAD),
        "coreboot, built by pspd; the word `coreboot` alone is `{coreboot: {payload: seabios}}`.",
    )],
};

pub static PAYLOAD: Object = Object {
    title: "coreboot's choice",
    keys: &[
        optional(
            "payload",
            Kind::Word(&["seabios", "linux"]),
            "What coreboot hands over to: `seabios`, which boots as usual, or `linux`, the image's kernel and initramfs in the ROM itself. Default: seabios.",
        ),
        optional(
            "cmdline",
            Kind::Text {
                example: "quiet panic=10",
            },
            "With `payload: linux`, words that follow the image's own command line of the kernel.",
        ),
    ],
};

pub static ROM: Object = Object {
    title: "a ROM",
    keys: &[
        required(
            "rom",
            Kind::Text {
                example: "firmware/coreboot.rom",
            },
            "The ROM's file.",
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

pub static MEMORY: Object = Object {
    title: "memory",
    keys: &[
        required("current", Kind::Size, "What the guest has."),
        optional(
            "maximum",
            Kind::Size,
            "How far it can grow while it runs. Default: current.",
        ),
    ],
};

pub static VCPUS: Object = Object {
    title: "vCPUs",
    keys: &[
        required(
            "current",
            Kind::Number {
                least: 1,
                most: 255,
            },
            "What the guest has.",
        ),
        optional(
            "maximum",
            Kind::Number {
                least: 1,
                most: 255,
            },
            "How far it can grow while it runs. Default: current.",
        ),
    ],
};

pub static VOLUME: Object = Object {
    title: "a data volume",
    keys: &[
        required(
            "size",
            Kind::Size,
            "Its size; it can grow later, and not shrink.",
        ),
        required(
            "mount",
            Kind::Text {
                example: "/var/lib/data",
            },
            "Where the guest mounts it.",
        ),
    ],
};

pub static SERVICE: Object = Object {
    title: "a service",
    keys: &[
        required(
            "binary",
            Kind::Text {
                example: "target/services/database-server",
            },
            "A static executable on this host, or a script for a program of the guest.",
        ),
        required(
            "port",
            Kind::Number {
                least: 1,
                most: 65535,
            },
            "Where it serves in the guest: gRPC with mutual TLS, unless `health` is `tcp`.",
        ),
        required(
            "health",
            Kind::Text {
                example: "database.DatabaseService",
            },
            "The service name that `grpc.health.v1` is asked for; or `tcp`, for a service that does not speak gRPC: it is healthy while its port takes connections.",
        ),
        optional(
            "environment",
            Kind::Named(&Kind::Scalar),
            "Environment variables, beside those that pspd sets (PSPD_*).",
        ),
        optional(
            "secrets",
            Kind::Named(&Kind::Either(&[
                Kind::Word(&["generate"]),
                Kind::Object(&SECRET),
            ])),
            "Environment variables that the service alone may read: `generate` makes a value, which `pspd credentials` writes out, and `{file: PATH}` takes that of a file. A service that asks for none can be published on loopback addresses only.",
        ),
        optional(
            "arguments",
            Kind::List(&Kind::Scalar),
            "Command line arguments.",
        ),
        optional(
            "checkpoint",
            Kind::List(&Kind::Scalar),
            "Arguments with which the binary, run once more in the guest, brings what the service holds to its files: `pspd export` does so before it reads the disks.",
        ),
        optional(
            "files",
            Kind::Named(&Kind::Text {
                example: "config.toml",
            }),
            "Files beside the binary, its working directory: their path there, to the path on this host.",
        ),
    ],
};

pub static SECRET: Object = Object {
    title: "a secret",
    keys: &[required(
        "file",
        Kind::Text {
            example: "token.txt",
        },
        "A file on this host that holds the value in one line.",
    )],
};
