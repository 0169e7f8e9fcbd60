//! Names that are DNS labels and still cannot be a domain's: pspd, the resolver or the guest's system uses them.

use super::super::fault::{Fault, Position};
use super::super::read::Reader;

/// The name in pspd's own client certificate.
const PSPD: &str = "pspd";
/// Every resolver answers for it without asking a DNS server (RFC 6761).
const LOCALHOST: &str = "localhost";

/// Users and units that every Debian guest has before its service: of the package `base-passwd`, of systemd and D-Bus, of
/// OpenSSH, and of pspd's own image. What other images have is found when a release is pushed.
const OF_GUEST: [&str; 34] = [
    "backup",
    "bin",
    "console",
    "daemon",
    "dbus",
    "emergency",
    "games",
    "getty",
    "grow",
    "irc",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "news",
    "nobody",
    "polkitd",
    "proxy",
    "quotaon",
    "rc-local",
    "rescue",
    "root",
    "serial-getty",
    "ssh",
    "sshd",
    "sync",
    "sys",
    "udev",
    "user",
    "uucp",
    "watch",
    "www-data",
    "x11-common",
];
/// How the names of all users and units of systemd, and of pspd, begin.
const RESERVED: [&str; 2] = ["systemd-", "pspd-"];

/// Reports a name that no domain can have.
pub(super) fn check(reader: &Reader, name: &str, at: Position) {
    let help = match name {
        PSPD => "it is the name of pspd in its client certificate",
        LOCALHOST => "in every guest it is the name of the guest itself",
        _ => return,
    };
    let fault = Fault::new(at, format!("the domain name `{name}` is reserved"));
    reader.fault(fault.help(help));
}

/// Reports a name that no unit and user of a service can have.
pub(super) fn check_of_service(reader: &Reader, name: &str, at: Position) {
    let fault = |message: String, help: &str| reader.fault(Fault::new(at, message).help(help));
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        fault(
            format!("a service cannot run in `{name}`: no user's name begins with a digit"),
            "its unit and its user have the domain's name; begin it with a letter",
        );
    } else if OF_GUEST.contains(&name) || RESERVED.iter().any(|one| name.starts_with(one)) {
        fault(
            format!("a service cannot run in `{name}`: guests have a unit or a user of this name"),
            "its unit and its user have the domain's name; rename the domain",
        );
    }
}
