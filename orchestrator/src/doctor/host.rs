//! The host itself: namespaces, devices, space, memory, the connection and the accelerator.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Check;
use crate::accel::{self, Accelerator};
use crate::image;
use crate::lab::Lab;
use crate::libvirt;
use crate::spec::{Accel, Connection, Size, Spec};
use crate::state::Paths;

/// What an image build and a few overlays take.
const WANTED_SPACE: Size = Size::gib(4);

/// The host's own share beside the guests'.
const HOST_MEMORY: Size = Size::mib(512);

/// What a lab's namespaces need of the kernel and of the user's account.
pub fn namespaces() -> Vec<Check> {
    let mut checks = vec![tun()];
    if !rustix::process::geteuid().is_root() {
        checks.push(user_namespace());
    }
    checks
}

fn tun() -> Check {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(_) => Check::ok("/dev/net/tun", "opens"),
        Err(error) => Check::missing(
            "/dev/net/tun",
            error.to_string(),
            "as root: modprobe tun; chmod 0666 /dev/net/tun",
        ),
    }
}

fn user_namespace() -> Check {
    let name = "user namespace";
    let made = Command::new("unshare")
        .args(["--user", "--map-auto", "--map-root-user", "--net", "true"])
        .stdin(Stdio::null())
        .output();
    match made {
        Ok(output) if output.status.success() => Check::ok(name, "made, with subordinate ids"),
        Ok(output) => Check::missing(
            name,
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            "apt-get install uidmap; give the user ids with `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`; \
             on Ubuntu also `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        Err(error) => Check::missing(
            name,
            format!("`unshare` cannot be run: {error}"),
            "apt-get install util-linux",
        ),
    }
}

/// Free space where `path` is or will be.
pub fn space(name: &str, path: &Path) -> Check {
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return Check::missing(
            name,
            format!("`{}` has no existing parent", path.display()),
            "choose another folder",
        );
    };
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = Size(stat.f_bavail * stat.f_frsize);
            let detail = format!("{free} free in `{}`", path.display());
            if free < WANTED_SPACE {
                Check::warning(
                    name,
                    detail,
                    format!(
                        "an image build and its overlays want {WANTED_SPACE}; free some, or move it with --{name}-dir"
                    ),
                )
            } else {
                Check::ok(name, detail)
            }
        }
        Err(error) => Check::missing(
            name,
            format!("`{}`: {error}", existing.display()),
            "choose another folder",
        ),
    }
}

/// The topology's memory against what the host has available.
pub fn memory(spec: &Spec) -> Check {
    let wanted = Size(
        spec.domains
            .values()
            .map(|domain| domain.memory.current.0)
            .sum::<u64>()
            + HOST_MEMORY.0,
    );
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("MemAvailable:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(Size(kib << 10))
    });
    match available {
        Some(available) if available < wanted => Check::warning(
            "memory",
            format!("{available} available, the domains and the host want {wanted}"),
            "lower `memory` in the topology, or end other programs",
        ),
        Some(available) => Check::ok("memory", format!("{available} available, {wanted} wanted")),
        None => Check::warning("memory", "/proc/meminfo does not tell", "none needed"),
    }
}

/// The libvirt connection of a URI, or the running lab's; and that published ports are free where nothing runs yet.
pub fn connection(spec: &Spec) -> Vec<Check> {
    match &spec.connection {
        Connection::Uri(uri) => vec![match libvirt::Connection::open(uri) {
            Ok(_) => Check::ok("connection", format!("`{uri}` answers")),
            Err(error) => Check::missing(
                "connection",
                error.to_string(),
                "start libvirtd, and join the libvirt group",
            ),
        }],
        Connection::Lab => Vec::new(),
    }
}

/// Published ports, where the deployment does not hold them itself.
pub fn ports(paths: &Paths, spec: &Spec) -> Vec<Check> {
    let running = Lab::running(&paths.deployment(&spec.name).lab())
        .ok()
        .flatten();
    let held: Vec<_> = running
        .and_then(|lab| lab.published().ok())
        .unwrap_or_default();
    let wanted = spec.domains.values().flat_map(|domain| &domain.publish);
    wanted
        .filter(|publish| !held.iter().any(|(host, _)| *host == publish.host))
        .map(|publish| match TcpListener::bind(publish.host) {
            Ok(_) => Check::ok("published port", format!("{} is free", publish.host)),
            Err(error) => Check::missing(
                "published port",
                format!("{}: {error}", publish.host),
                "end what listens there (`ss -ltnp` shows it), or change `publish` in the topology",
            ),
        })
        .collect()
}

/// The accelerator's proof, as `up` would make it.
pub fn accelerator(paths: &Paths, spec: &Spec) -> Check {
    let kernel = spec
        .images
        .values()
        .find_map(|image| image::cached(&paths.cache, image).ok().flatten()?.kernel);
    if spec.accel == Accel::Auto && kernel.is_none() {
        return Check::warning(
            "accelerator",
            "kvm is proven with an image's kernel, and no image is built",
            "pspd image build",
        );
    }
    match accel::decide(spec.accel, &paths.cache, kernel.as_ref()) {
        Ok(proof) if proof.accelerator == Accelerator::Kvm => {
            Check::ok("accelerator", format!("kvm: {}", proof.reason))
        }
        Ok(proof) if spec.accel == Accel::Tcg => {
            Check::ok("accelerator", format!("tcg: {}", proof.reason))
        }
        Ok(proof) => Check::warning(
            "accelerator",
            format!("tcg: {}", proof.reason),
            "guests run about ten times slower; a host whose KVM runs guests is quick",
        ),
        Err(error) => Check::missing(
            "accelerator",
            format!("{error:#}"),
            "set `accel: tcg` or `auto` in the topology",
        ),
    }
}
