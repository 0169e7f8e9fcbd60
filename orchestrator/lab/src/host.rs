//! Checks what a lab needs from the host, with hints for each problem.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
const TUN: &str = "/dev/net/tun";
pub(super) const NO_HAPROXY: &str = "`haproxy` is missing, which `publish` with `http` needs. Install `haproxy` (it need not run as a service)";

/// Returns `PATH` plus the system directories, which are often not in a user's `PATH`.
pub(super) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut all: Vec<PathBuf> = env::split_paths(&path).collect();
    for directory in SYSTEM_DIRECTORIES.map(PathBuf::from) {
        if !all.contains(&directory) {
            all.push(directory);
        }
    }
    env::join_paths(all).unwrap_or(path)
}

pub(super) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns all problems that prevent a lab on this host, each with a hint.
pub(super) fn faults() -> Vec<String> {
    let mut faults = missing_programs();
    faults.extend(tun_fault());
    if !is_root() {
        faults.extend(user_namespace_faults());
    }
    faults
}

fn missing_programs() -> Vec<String> {
    let mut needed = vec![
        (
            "unshare",
            "`unshare` is missing. Install `util-linux`, version 2.38 or newer",
        ),
        (
            "dnsmasq",
            "`dnsmasq` is missing. Install `dnsmasq-base` (Debian, Ubuntu) or `dnsmasq`",
        ),
        ("ip", "`ip` is missing. Install `iproute2`"),
        ("libvirtd", libvirtd_advice()),
    ];
    if !is_root() {
        let advice = "`newuidmap` is missing. Install `uidmap` (Debian, Ubuntu) or `shadow-utils`";
        needed.push(("newuidmap", advice));
    }
    needed
        .into_iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, advice)| advice.to_owned())
        .collect()
}

fn libvirtd_advice() -> &'static str {
    if find("virtqemud").is_some() {
        "`libvirtd` is missing; only libvirt's modular daemons are installed. Install `libvirt-daemon`, which contains the \
         monolithic daemon (it need not run as a service)"
    } else {
        "`libvirtd` is missing. Install `libvirt-daemon`, `libvirt-daemon-system` and `qemu-system-x86` \
         (it need not run as a service)"
    }
}

fn tun_fault() -> Option<String> {
    let error = OpenOptions::new().read(true).write(true).open(TUN).err()?;
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "Load its module: `modprobe tun`",
        _ => "Allow all users to open it, as udev does by default: `chmod 0666 /dev/net/tun`",
    };
    Some(format!("failed to open `{TUN}`: {error}. {advice}"))
}

fn user_namespace_faults() -> Vec<String> {
    let mut faults = Vec::new();
    if setting("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        faults.push(
            "user namespaces are disabled. Run `sysctl -w kernel.unprivileged_userns_clone=1`"
                .to_owned(),
        );
    }
    if setting("user/max_user_namespaces").as_deref() == Some("0") {
        faults.push(
            "user namespaces are disabled. Run `sysctl -w user.max_user_namespaces=10000`"
                .to_owned(),
        );
    }
    faults.extend(subordinate_faults());
    faults
}

fn subordinate_faults() -> Vec<String> {
    // Ranges may come from another name service, in which case these files are not used.
    let elsewhere = fs::read_to_string("/etc/nsswitch.conf")
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("subid:")));
    if elsewhere {
        return Vec::new();
    }
    let id = rustix::process::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, &id).unwrap_or(&id);
    ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .filter(|file| {
            let ranges = fs::read_to_string(file).unwrap_or_default();
            !has_range(&ranges, name, &id)
        })
        .map(|file| {
            format!(
                "user `{name}` has no subordinate ids in `{file}`. Add the line `{name}:100000:65536` \
                 (a range that no other line uses)"
            )
        })
        .collect()
}

fn user_name<'a>(passwd: &'a str, id: &str) -> Option<&'a str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then_some(name)
    })
}

/// Returns whether a subuid(5) file has a range for the user; dnsmasq's unprivileged user needs an id from it.
fn has_range(ranges: &str, name: &str, id: &str) -> bool {
    ranges.lines().any(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        matches!(fields[..], [user, _, count] if (user == name || user == id) && count != "0")
    })
}

/// Returns likely causes of a failed `unshare` that cannot be checked in advance.
pub(super) fn likely_causes() -> Vec<String> {
    let mut causes = Vec::new();
    if is_root() {
        causes.push(
            "in a container, root needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` (`--privileged`)"
                .to_owned(),
        );
    } else if setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        causes.push(
            "AppArmor restricts user namespaces (Ubuntu 24.04 and newer). Run \
             `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
                .to_owned(),
        );
    }
    causes
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// Returns whether a program runs and succeeds; its output is discarded.
pub(super) fn succeeds<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> bool {
    find(program).is_some_and(|path| {
        std::process::Command::new(path)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number() {
        for (ranges, found) in [
            ("anna:100000:65536\n", true),
            ("bert:1:2\n1000:100000:65536", true),
            ("annabel:100000:65536", false),
            ("anna:100000:0", false),
            ("anna", false),
            ("", false),
        ] {
            assert_eq!(has_range(ranges, "anna", "1000"), found, "{ranges:?}");
        }
    }

    #[test]
    fn users_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(user_name(passwd, "1000"), Some("anna"));
        assert_eq!(user_name(passwd, "7"), None);
    }

    #[test]
    fn the_system_directories_are_searched() {
        let path = search_path();
        let all: Vec<PathBuf> = env::split_paths(&path).collect();
        assert!(all.contains(&PathBuf::from("/usr/sbin")));
    }
}
