//! Checks the programs and plug-ins that pspd needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Check;

struct Tool {
    program: &'static str,
    package: &'static str,
    /// The option that prints the version in the first line.
    version: Option<&'static str>,
}

const ALWAYS: &[Tool] = &[
    Tool {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        version: Some("--version"),
    },
    Tool {
        program: "qemu-img",
        package: "qemu-utils",
        version: Some("--version"),
    },
    Tool {
        program: "mmdebstrap",
        package: "mmdebstrap",
        version: Some("--version"),
    },
    Tool {
        program: "mke2fs",
        package: "e2fsprogs",
        version: None,
    },
    Tool {
        program: "sfdisk",
        package: "fdisk",
        version: None,
    },
    Tool {
        program: "grub-mkimage",
        package: "grub-common",
        version: None,
    },
    Tool {
        program: "mcopy",
        package: "mtools",
        version: None,
    },
    Tool {
        program: "mkfs.vfat",
        package: "dosfstools",
        version: None,
    },
    Tool {
        program: "cpio",
        package: "cpio",
        version: None,
    },
    Tool {
        program: "zstd",
        package: "zstd",
        version: None,
    },
    Tool {
        program: "xz",
        package: "xz-utils",
        version: None,
    },
    Tool {
        program: "ssh",
        package: "openssh-client",
        version: None,
    },
];

const LAB: &[Tool] = &[
    Tool {
        program: "libvirtd",
        package: "libvirt-daemon",
        version: Some("--version"),
    },
    Tool {
        program: "dnsmasq",
        package: "dnsmasq-base",
        version: None,
    },
    Tool {
        program: "iptables",
        package: "iptables",
        version: None,
    },
    Tool {
        program: "unshare",
        package: "util-linux",
        version: Some("--version"),
    },
    Tool {
        program: "nsenter",
        package: "util-linux",
        version: None,
    },
];

/// Files that the programs read or load, with their packages.
const FILES: &[(&str, &str)] = &[
    ("/usr/lib/grub/i386-pc", "grub-pc-bin"),
    ("/usr/lib/grub/x86_64-efi", "grub-efi-amd64-bin"),
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
];

/// libvirt's driver plug-ins, which distributions package separately from the daemon.
const DRIVERS: &[&str] = &["qemu", "network"];

pub(super) fn check(lab: bool) -> Vec<Check> {
    let mut checks: Vec<Check> = ALWAYS.iter().map(Tool::check).collect();
    checks.extend(
        FILES
            .iter()
            .map(|(path, package)| check_file(path, package)),
    );
    if lab {
        checks.extend(LAB.iter().map(Tool::check));
        checks.extend(DRIVERS.iter().map(|driver| check_driver(driver)));
    }
    checks
}

impl Tool {
    fn check(&self) -> Check {
        let Some(path) = find(self.program) else {
            return Check::missing(
                self.program,
                "not found",
                format!("apt-get install {}", self.package),
            );
        };
        let version = self.version.and_then(|flag| first_line(&path, flag));
        Check::ok(
            self.program,
            version.unwrap_or_else(|| path.display().to_string()),
        )
    }
}

fn check_file(path: &str, package: &str) -> Check {
    if Path::new(path).exists() {
        Check::ok(package, path)
    } else {
        Check::missing(
            package,
            format!("`{path}` not found"),
            format!("apt-get install {package}"),
        )
    }
}

fn check_driver(driver: &str) -> Check {
    let file = format!("libvirt_driver_{driver}.so");
    let name = format!("libvirt {driver}");
    let folders = [
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver",
        "/usr/lib64/libvirt/connection-driver",
    ];
    match folders
        .iter()
        .map(|folder| Path::new(folder).join(&file))
        .find(|path| path.exists())
    {
        Some(path) => Check::ok(&name, path.display().to_string()),
        None => Check::missing(
            &name,
            format!("`{file}` not found"),
            format!("apt-get install libvirt-daemon-driver-{driver}"),
        ),
    }
}

/// Searches PATH, then the directories of daemons, which are often not in a user's PATH.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn first_line(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .map(str::to_owned)
}
