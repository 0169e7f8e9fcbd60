//! Checks of the host: devices, disk space, memory, the connection and the accelerator.

use std::fs;
use std::path::Path;

use pspd_lab::{Relay, check_free, front_fault};
use pspd_model::definition::Accelerator;
use pspd_model::spec::{Accel, Connection, Firmware, Size, Spec};

use super::Check;
use crate::accel;
use crate::firmware;
use crate::free_memory::free_memory;
use crate::hint::told;
use crate::image;
use crate::libvirt;
use crate::state::Paths;

/// The space for an image build and a few overlays.
const WANTED_SPACE: Size = Size::gib(4);

const EMULATED: &str =
    "use a host with working KVM; without it, guests are emulated, and about ten times slower";

/// The memory that the host needs in addition to the guests.
const HOST_MEMORY: Size = Size::mib(512);

/// Checks what a lab's network needs of the kernel.
pub(super) fn tun() -> Check {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(_) => Check::ok("/dev/net/tun", "accessible"),
        Err(error) => Check::missing(
            "/dev/net/tun",
            error.to_string(),
            "run as root: modprobe tun; chmod 0666 /dev/net/tun",
        ),
    }
}

/// Checks the free space in the file system of `path`, which may not exist yet.
pub(super) fn space(name: &str, path: &Path) -> Check {
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return Check::missing(
            name,
            format!("`{}` has no existing parent directory", path.display()),
            "choose another directory",
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
                        "an image build and its overlays need {WANTED_SPACE}; free some space, or choose another directory with --{name}-dir"
                    ),
                )
            } else {
                Check::ok(name, detail)
            }
        }
        Err(error) => Check::missing(
            name,
            format!("`{}`: {error}", existing.display()),
            "choose another directory",
        ),
    }
}

/// Compares the memory of all domains with the available memory of the host.
pub(super) fn memory(spec: &Spec) -> Check {
    let wanted = Size(
        spec.domains
            .values()
            .map(|domain| domain.memory.current.0)
            .sum::<u64>()
            + HOST_MEMORY.0,
    );
    match free_memory() {
        Ok(available) if available < wanted => Check::warning(
            "memory",
            format!("{available} available; the domains and the host need {wanted}"),
            "reduce `memory` in the topology, or stop other programs",
        ),
        Ok(available) => Check::ok("memory", format!("{available} available, {wanted} needed")),
        Err(error) => Check::warning("memory", told(&error), "no action needed"),
    }
}

/// Checks the libvirt connection of a URI. A lab's connection exists only after `up`.
pub(super) fn connection(spec: &Spec) -> Vec<Check> {
    match &spec.connection {
        Connection::Uri(uri) => vec![match libvirt::Connection::open(uri) {
            Ok(_) => Check::ok("connection", format!("connected to `{uri}`")),
            Err(error) => Check::missing(
                "connection",
                error.to_string(),
                "start libvirtd, and add the user to the libvirt group",
            ),
        }],
        Connection::Lab => Vec::new(),
    }
}

/// Checks that published ports are free or held by this deployment, and what publishes HTTP servers.
pub(super) fn ports(paths: &Paths, spec: &Spec) -> Vec<Check> {
    let running = Relay::running(&paths.deployment(&spec.name).lab())
        .ok()
        .flatten();
    let held: Vec<_> = running
        .and_then(|relay| relay.published().ok())
        .unwrap_or_default();
    let wanted = spec.domains.values().flat_map(|domain| &domain.publish);
    let proxy = wanted.clone().any(|publish| publish.http.is_some());
    let ports = wanted
        .filter(|publish| !held.iter().any(|(host, _)| *host == publish.host))
        .map(|publish| match check_free(publish.host) {
            Ok(()) => Check::ok("published port", format!("{} is free", publish.host)),
            Err(error) => Check::missing(
                "published port",
                told(&error),
                "stop the program that listens on it, or change `publish` in the topology",
            ),
        });
    let proxy = proxy.then(|| match front_fault() {
        None => Check::ok("haproxy", "publishes HTTP servers"),
        Some(fault) => Check::missing("haproxy", fault.to_string(), "apt-get install haproxy"),
    });
    ports.chain(proxy).collect()
}

/// What coreboot's ROMs are built with, where a domain wants one that is not cached.
pub(super) fn coreboot(paths: &Paths, spec: &Spec) -> Option<Check> {
    let wanted = spec
        .domains
        .values()
        .any(|domain| matches!(domain.firmware, Firmware::Coreboot(_)));
    if !wanted {
        return None;
    }
    Some(match firmware::coreboot::lacking(&paths.cache) {
        Ok(None) => Check::ok("coreboot", "its ROMs are cached, or can be built"),
        Ok(Some(lacking)) => Check::missing(
            "coreboot",
            lacking,
            "run `scripts/setup`, or install the packages",
        ),
        Err(error) => Check::missing("coreboot", told(&error), "apt-get install bash"),
    })
}

/// Checks the device of KVM, where no topology says more.
pub(super) fn kvm() -> Check {
    match accel::device() {
        Ok(()) => Check::ok(
            "/dev/kvm",
            "accessible; `up` tests whether it runs guests, and emulates them if not",
        ),
        Err(reason) => Check::warning("/dev/kvm", reason, EMULATED),
    }
}

/// Checks the accelerator in the same way as `up`.
pub(super) fn accelerator(paths: &Paths, spec: &Spec) -> Check {
    let kernel = spec
        .images
        .values()
        .find_map(|image| image::cached(&paths.cache, image).ok().flatten()?.kernel);
    if spec.accel == Accel::Auto && kernel.is_none() {
        return Check::warning(
            "accelerator",
            "testing KVM needs the kernel of an image, and no image is built",
            "run `pspd image build`",
        );
    }
    match accel::decide(spec.accel, &paths.cache, kernel.as_ref()) {
        Ok(proof) if proof.accelerator == Accelerator::Kvm => {
            Check::ok("accelerator", format!("kvm: {}", proof.reason))
        }
        Ok(proof) if spec.accel == Accel::Tcg => {
            Check::ok("accelerator", format!("tcg: {}", proof.reason))
        }
        Ok(proof) => Check::warning("accelerator", format!("tcg: {}", proof.reason), EMULATED),
        Err(error) => Check::missing(
            "accelerator",
            told(&error),
            "set `accel: tcg` or `accel: auto` in the topology",
        ),
    }
}
