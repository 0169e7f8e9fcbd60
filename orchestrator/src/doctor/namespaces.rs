//! Checks whether this user can make the namespaces of a lab, and says what keeps it from that.

use std::fs;
use std::process::{Command, Stdio};

use super::Check;
use super::tools::find;

const NAME: &str = "namespaces";
/// What works without them.
const ELSE: &str = "or set `connection: qemu:///system` in the topology, which needs no namespaces";

/// What this host says of namespaces.
#[derive(Clone, Debug)]
struct Facts {
    root: bool,
    user: String,
    /// What making them printed, if that failed; `None` without the program for it.
    made: Option<Result<(), String>>,
    /// Whether `newuidmap` and `newgidmap` are installed.
    has_mappers: bool,
    has_subordinate_ids: bool,
    /// `user.max_user_namespaces`, as far as it can be read.
    most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, which some kernels have.
    unprivileged: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, which some kernels have.
    restricted: Option<u64>,
}

pub(super) fn check() -> Check {
    diagnose(&Facts::gather())
}

impl Facts {
    fn gather() -> Facts {
        let root = rustix::process::geteuid().is_root();
        let user = Command::new("id").arg("-un").output().ok();
        let user = user.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let user = user.unwrap_or_else(|| "USER".to_owned());
        // As a lab makes them.
        let mapped: &[&str] = match root {
            true => &[],
            false => &["--user", "--map-auto", "--map-root-user"],
        };
        let made = Command::new("unshare")
            .args(mapped)
            .args(["--net", "--mount", "--pid", "--fork", "true"])
            .stdin(Stdio::null())
            .output();
        let made = made.ok().map(|output| match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        });
        let id = rustix::process::geteuid().as_raw().to_string();
        let has_entry = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let mut owners = text.lines().filter_map(|line| line.split(':').next());
            owners.any(|owner| owner == user || owner == id)
        };
        Facts {
            root,
            made,
            has_mappers: find("newuidmap").is_some() && find("newgidmap").is_some(),
            has_subordinate_ids: has_entry("/etc/subuid") && has_entry("/etc/subgid"),
            most: setting("user/max_user_namespaces"),
            unprivileged: setting("kernel/unprivileged_userns_clone"),
            restricted: setting("kernel/apparmor_restrict_unprivileged_userns"),
            user,
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    text.trim().parse().ok()
}

/// The first reason, in the order in which they have to be removed.
fn diagnose(facts: &Facts) -> Check {
    let failure = match &facts.made {
        Some(Ok(())) if facts.root => return Check::ok(NAME, "can be created"),
        Some(Ok(())) => return Check::ok(NAME, "can be created, with subordinate ids"),
        Some(Err(failure)) => failure.as_str(),
        None => {
            return Check::missing(NAME, "`unshare` not found", "apt-get install util-linux");
        }
    };
    let missing = |detail: &str, fix: &str| Check::missing(NAME, detail, format!("{fix}; {ELSE}"));
    if facts.root {
        return missing(
            &format!("{failure}: this container lacks privileges"),
            "start the container with `--privileged`",
        );
    }
    if !facts.has_mappers {
        return Check::missing(NAME, "`newuidmap` not found", "apt-get install uidmap");
    }
    if !facts.has_subordinate_ids {
        let ids = "--add-subuids 100000-165535 --add-subgids 100000-165535";
        return missing(
            &format!("`{}` has no subordinate ids", facts.user),
            &format!("sudo usermod {ids} {}", facts.user),
        );
    }
    if facts.most == Some(0) {
        return missing(
            "user namespaces are disabled on this host",
            "sudo sysctl user.max_user_namespaces=15000",
        );
    }
    if facts.unprivileged == Some(0) {
        return missing(
            "this host allows user namespaces only for root",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        );
    }
    if facts.restricted.is_some_and(|restricted| restricted != 0) {
        return missing(
            "AppArmor restricts user namespaces on this host",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    missing(
        failure,
        "in a container, start it with `--privileged`; else run pspd as root",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(change: impl FnOnce(&mut Facts)) -> String {
        let mut facts = Facts {
            root: false,
            user: "ann".into(),
            made: Some(Err(
                "unshare: unshare failed: Operation not permitted".into()
            )),
            has_mappers: true,
            has_subordinate_ids: true,
            most: Some(15000),
            unprivileged: None,
            restricted: Some(0),
        };
        change(&mut facts);
        diagnose(&facts).to_string()
    }

    #[test]
    fn each_reason_is_named_with_what_removes_it_and_what_works_without() {
        type Change = fn(&mut Facts);
        let cases: [(Change, &str); 8] = [
            (|it| it.made = None, "apt-get install util-linux"),
            (|it| it.has_mappers = false, "apt-get install uidmap"),
            (
                |it| it.has_subordinate_ids = false,
                "`ann` has no subordinate ids\n                          fix: sudo usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 ann; or set `connection: qemu:///system`",
            ),
            (
                |it| it.most = Some(0),
                "sysctl user.max_user_namespaces=15000; or",
            ),
            (
                |it| it.unprivileged = Some(0),
                "sysctl kernel.unprivileged_userns_clone=1; or",
            ),
            (
                |it| it.restricted = Some(1),
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0; or",
            ),
            (|it| it.root = true, "this container lacks privileges"),
            (|_| {}, "unshare failed: Operation not permitted"),
        ];
        for (change, expected) in cases {
            let shown = shown(change);
            assert!(shown.starts_with("missing  namespaces"), "{shown}");
            assert!(shown.contains(expected), "{shown}");
        }
        assert!(shown(|it| it.made = Some(Ok(()))).starts_with("ok "));
    }
}
