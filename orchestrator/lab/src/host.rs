//! Checks what a lab needs from the host, with a hint for each problem.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use pspd_model::hint::Hinted;

const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
const TUN: &str = "/dev/net/tun";

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

/// The problem that fronts need HAProxy.
pub(super) fn no_haproxy() -> Hinted {
    Hinted::new(
        "`haproxy` is missing, which `publish` with `http` needs",
        "Install `haproxy` (it need not run as a service)",
    )
}

/// Returns all problems that prevent a lab on this host, each with a hint.
pub(super) fn faults() -> Vec<Hinted> {
    let mut faults = missing_programs();
    faults.extend(tun_fault());
    if !is_root() {
        faults.extend(user_namespace_faults());
    }
    faults
}

/// The programs that every lab needs, and the packages that have them.
const PROGRAMS: [(&str, &str); 3] = [
    ("unshare", "Install `util-linux`, version 2.38 or newer"),
    (
        "dnsmasq",
        "Install `dnsmasq-base` (Debian, Ubuntu) or `dnsmasq`",
    ),
    ("ip", "Install `iproute2`"),
];
/// What an ordinary user's lab needs, too.
const NEWUIDMAP: (&str, &str) = (
    "newuidmap",
    "Install `uidmap` (Debian, Ubuntu) or `shadow-utils`",
);

fn missing_programs() -> Vec<Hinted> {
    let of_user = (!is_root()).then_some(NEWUIDMAP);
    let needed = PROGRAMS.into_iter().chain(of_user);
    let mut faults: Vec<Hinted> = needed
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, install)| no_program(program, install))
        .collect();
    if find("libvirtd").is_none() {
        faults.push(no_libvirtd(find("virtqemud").is_some()));
    }
    faults
}

fn no_program(program: &str, install: &'static str) -> Hinted {
    Hinted::new(format!("`{program}` is missing"), install)
}

/// `modular`: whether libvirt's other daemons are installed.
fn no_libvirtd(modular: bool) -> Hinted {
    if modular {
        Hinted::new(
            "`libvirtd` is missing; only libvirt's modular daemons are installed",
            "Install `libvirt-daemon`, which contains the monolithic daemon (it need not run as a service)",
        )
    } else {
        no_program(
            "libvirtd",
            "Install `libvirt-daemon`, `libvirt-daemon-system` and `qemu-system-x86` (it need not run as a service)",
        )
    }
}

fn tun_fault() -> Option<Hinted> {
    let error = OpenOptions::new().read(true).write(true).open(TUN).err()?;
    Some(no_tun(&error))
}

fn no_tun(error: &io::Error) -> Hinted {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "Load its module: `modprobe tun`",
        _ => "Allow all users to open it, as udev does by default: `chmod 0666 /dev/net/tun`",
    };
    Hinted::new(format!("failed to open `{TUN}`: {error}"), hint)
}

/// The settings of the kernel that disable user namespaces, and how to enable them.
const USER_NAMESPACES: [(&str, &str); 2] = [
    (
        "kernel/unprivileged_userns_clone",
        "Run `sysctl -w kernel.unprivileged_userns_clone=1`",
    ),
    (
        "user/max_user_namespaces",
        "Run `sysctl -w user.max_user_namespaces=10000`",
    ),
];

fn user_namespace_faults() -> Vec<Hinted> {
    let disabled = USER_NAMESPACES
        .into_iter()
        .filter(|(name, _)| setting(name).as_deref() == Some("0"));
    let mut faults: Vec<Hinted> = disabled.map(|(_, enable)| no_namespaces(enable)).collect();
    faults.extend(subordinate_faults());
    faults
}

fn no_namespaces(enable: &'static str) -> Hinted {
    Hinted::new("user namespaces are disabled", enable)
}

fn subordinate_faults() -> Vec<Hinted> {
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
        .map(|file| no_range(name, file))
        .collect()
}

fn no_range(user: &str, file: &str) -> Hinted {
    Hinted::new(
        format!("user `{user}` has no subordinate ids in `{file}`"),
        format!("Add the line `{user}:100000:65536` (a range that no other line uses)"),
    )
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

/// Returns the likely cause of a failed `unshare` that cannot be checked in advance.
pub(super) fn likely_cause() -> Option<Hinted> {
    if is_root() {
        return Some(no_capabilities());
    }
    let restricts = setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    restricts.then(restricted_by_apparmor)
}

fn no_capabilities() -> Hinted {
    Hinted::new(
        "in a container, root needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`",
        "Start the container with `--privileged`",
    )
}

fn restricted_by_apparmor() -> Hinted {
    Hinted::new(
        "AppArmor restricts user namespaces (Ubuntu 24.04 and newer)",
        "Run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
    )
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

    fn one_of_each() -> Vec<Hinted> {
        let mut all = vec![
            no_haproxy(),
            no_libvirtd(true),
            no_libvirtd(false),
            no_tun(&io::Error::from(io::ErrorKind::NotFound)),
            no_tun(&io::Error::from(io::ErrorKind::PermissionDenied)),
            no_range("anna", "/etc/subuid"),
            no_capabilities(),
            restricted_by_apparmor(),
        ];
        let programs = PROGRAMS.into_iter().chain([NEWUIDMAP]);
        all.extend(programs.map(|(program, install)| no_program(program, install)));
        all.extend(USER_NAMESPACES.map(|(_, enable)| no_namespaces(enable)));
        all
    }

    #[test]
    fn each_problem_says_what_is_wrong_and_its_hint_what_to_do() {
        for problem in one_of_each() {
            let (message, hint) = (problem.to_string(), problem.hint());
            for advice in ["Run `", "Install `", ". "] {
                assert!(!message.contains(advice), "{message}");
            }
            assert!(!message.ends_with('.'), "{message}");
            assert!(hint.starts_with(char::is_uppercase), "{hint}");
            assert!(!hint.ends_with('.'), "{hint}");
        }
        // Every problem of this file is made by one of these functions.
        let made = include_str!("host.rs").split("#[cfg(test)]").next();
        assert_eq!(made.unwrap().matches("Hinted::new(").count(), 8);
    }

    #[test]
    fn the_system_directories_are_searched() {
        let path = search_path();
        let all: Vec<PathBuf> = env::split_paths(&path).collect();
        assert!(all.contains(&PathBuf::from("/usr/sbin")));
    }
}
