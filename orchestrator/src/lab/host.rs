//! What a lab needs of the host, and what to do where it is missing.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
const TUN: &str = "/dev/net/tun";

/// `PATH` with the system's directories, which ordinary users often lack.
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

/// Everything that keeps a lab from working on this host, each with what to do about it.
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
            "`unshare` is missing: install `util-linux`, 2.38 or newer",
        ),
        (
            "dnsmasq",
            "`dnsmasq` is missing: install `dnsmasq-base` (Debian, Ubuntu) or `dnsmasq`",
        ),
        ("ip", "`ip` is missing: install `iproute2`"),
        ("libvirtd", libvirtd_advice()),
    ];
    if !is_root() {
        let advice = "`newuidmap` is missing: install `uidmap` (Debian, Ubuntu) or `shadow-utils`";
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
        "`libvirtd` is missing and only libvirt's modular daemons are here: install `libvirt-daemon`, \
         which has the monolithic one (it need not run as a service)"
    } else {
        "`libvirtd` is missing: install `libvirt-daemon`, `libvirt-daemon-system` and `qemu-system-x86` \
         (it need not run as a service)"
    }
}

fn tun_fault() -> Option<String> {
    let error = OpenOptions::new().read(true).write(true).open(TUN).err()?;
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "load its module: `modprobe tun`",
        _ => "let users open it, as udev does by default: `chmod 0666 /dev/net/tun`",
    };
    Some(format!("`{TUN}` can't be opened ({error}): {advice}"))
}

fn user_namespace_faults() -> Vec<String> {
    let mut faults = Vec::new();
    if setting("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        faults.push(
            "user namespaces are switched off: `sysctl -w kernel.unprivileged_userns_clone=1`"
                .to_owned(),
        );
    }
    if setting("user/max_user_namespaces").as_deref() == Some("0") {
        faults.push(
            "user namespaces are switched off: `sysctl -w user.max_user_namespaces=10000`"
                .to_owned(),
        );
    }
    faults.extend(subordinate_faults());
    faults
}

fn subordinate_faults() -> Vec<String> {
    // Ranges may come from another name service; then these files say nothing.
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
                "`{file}` gives `{name}` no subordinate ids: add the line `{name}:100000:65536` \
                 (a range that no other line there uses)"
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

/// Whether a subuid(5) file has a range for the user; dnsmasq's unprivileged user needs an id of it.
fn has_range(ranges: &str, name: &str, id: &str) -> bool {
    ranges.lines().any(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        matches!(fields[..], [user, _, count] if (user == name || user == id) && count != "0")
    })
}

/// What may be behind a failed `unshare`, where that isn't certain beforehand.
pub(super) fn suspicions() -> Vec<String> {
    let mut found = Vec::new();
    if is_root() {
        found.push(
            "as root in a container, it needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` (`--privileged`)"
                .to_owned(),
        );
    } else if setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        found.push(
            "AppArmor keeps users from namespaces here (Ubuntu 24.04 and newer): \
             `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
                .to_owned(),
        );
    }
    found
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// Whether a program runs and succeeds; its output goes nowhere.
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
