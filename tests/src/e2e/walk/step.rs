//! What happens in one step: the file is edited, something acts behind pspd's back, a file is lost, pspd is killed.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{processes_naming, sh};

use super::topology::{Domain, Topology};

/// Files of the deployment's folder; a folder counts as all that is in it.
const FILES: [&str; 17] = [
    "journal.jsonl",
    "intent.json",
    "spec.json",
    "origin",
    "lock",
    "attached",
    "boots",
    "deployed",
    "keys",
    "keys/hosts",
    "keys/services",
    "lab/lock",
    "lab/run/control",
    "lab/run/libvirt-sock",
    "lab/run",
    "console",
    "firmware",
];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Edit(Edit),
    Behind(Behind),
    Remove(&'static str),
    Damage(&'static str),
    /// SIGKILL of an `up` that applies an edit.
    Killed {
        edit: Edit,
        after: Duration,
    },
}

/// A change of the file. Domains are named by their place in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    Rename(usize, &'static str),
    Address(usize, u8),
    SwapAddresses,
    ToggleService(usize),
    ToggleVolume(usize),
    ToggleDomain,
    Memory(usize, u64),
    Vcpus(usize, u32),
    Firmware(usize, &'static str),
    Network(u8),
    DnsDomain(&'static str),
    MovePort,
}

/// What a user, an operator or a fault does without pspd.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind {
    Virsh(&'static str, usize),
    NetworkDestroyed,
    Signal(&'static str, &'static str),
    InGuest(&'static str, usize),
}

const VIRSH: [&str; 5] = [
    "destroy",
    "managedsave",
    "suspend",
    "undefine --managed-save",
    "reset",
];

/// Signals, and what gets them, as its command line names it.
const SIGNALS: [(&str, &str); 8] = [
    ("KILL", "qemu-system"),
    ("STOP", "qemu-system"),
    ("KILL", "dnsmasq"),
    ("STOP", "dnsmasq"),
    ("KILL", "libvirtd"),
    ("STOP", "libvirtd"),
    ("KILL", "lab-supervisor"),
    ("STOP", "lab-supervisor"),
];

/// `NAME` is the service's unit.
const IN_GUEST: [&str; 6] = [
    "systemctl stop NAME",
    "systemctl kill -s KILL NAME",
    "systemctl mask --now NAME",
    "systemctl stop ssh.socket ssh",
    "ip link set $(ip -o route get 10.1.1.1 | sed 's/.* dev \\([^ ]*\\).*/\\1/') down",
    "rm -f /etc/systemd/system/NAME.service",
];

impl Step {
    pub(super) fn draw(rng: &mut Rng, topology: &Topology) -> Step {
        match rng.u8(..8) {
            0..3 => Step::Edit(Edit::draw(rng, topology)),
            3..5 => Step::Behind(Behind::draw(rng, topology)),
            5 => Step::Remove(FILES[rng.usize(..FILES.len())]),
            6 => Step::Damage(FILES[rng.usize(..FILES.len())]),
            _ => Step::Killed {
                edit: Edit::draw(rng, topology),
                after: Duration::from_millis(rng.u64(10..15_000)),
            },
        }
    }

    /// Whether nothing was cut off: each service had the time to write its last lines.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(self, Step::Edit(_))
    }

    pub(super) fn apply(
        &self,
        deployment: &Deployment,
        topology: &mut Topology,
    ) -> anyhow::Result<()> {
        match self {
            Step::Edit(edit) => {
                edit.apply(topology);
                topology.write(deployment)
            }
            Step::Behind(behind) => behind.apply(deployment, topology),
            Step::Remove(file) => {
                for path in files(deployment, file)? {
                    fs::remove_file(&path)
                        .with_context(|| format!("failed to remove `{}`", path.display()))?;
                }
                Ok(())
            }
            Step::Damage(file) => {
                for path in files(deployment, file)? {
                    // In place of what was there: some of it is open.
                    fs::remove_file(&path)?;
                    fs::write(&path, "{\"damaged\"")?;
                }
                Ok(())
            }
            Step::Killed { edit, after } => {
                edit.apply(topology);
                topology.write(deployment)?;
                let up = deployment.spawn(&["up"])?;
                thread::sleep(*after);
                // It may have ended before.
                let _ = up.signal("KILL");
                up.wait().map(drop)
            }
        }
    }
}

impl Edit {
    fn draw(rng: &mut Rng, topology: &Topology) -> Edit {
        let domain = rng.usize(..topology.domains.len());
        match rng.u8(..12) {
            0 => Edit::Rename(domain, ["store", "archive", "ledger"][rng.usize(..3)]),
            1 => Edit::Address(domain, rng.u8(20..200)),
            2 => Edit::SwapAddresses,
            3 => Edit::ToggleService(domain),
            4 => Edit::ToggleVolume(domain),
            5 => Edit::ToggleDomain,
            6 => Edit::Memory(domain, [192, 224, 256][rng.usize(..3)]),
            7 => Edit::Vcpus(domain, rng.u32(1..3)),
            8 => Edit::Firmware(domain, ["seabios", "uefi"][rng.usize(..2)]),
            9 => Edit::Network(rng.u8(60..90)),
            10 => Edit::DnsDomain(["pspd.internal", "walk.test"][rng.usize(..2)]),
            _ => Edit::MovePort,
        }
    }

    fn apply(self, topology: &mut Topology) {
        let domains = &mut topology.domains;
        match self {
            Edit::Rename(place, name) => {
                if domains.iter().all(|domain| domain.name != name) {
                    domains[place].name = name;
                }
            }
            Edit::Address(place, host) => {
                if domains.iter().all(|domain| domain.host != host) {
                    domains[place].host = host;
                }
            }
            Edit::SwapAddresses => {
                if let [first, second] = domains.as_mut_slice() {
                    std::mem::swap(&mut first.host, &mut second.host);
                }
            }
            Edit::ToggleService(place) => domains[place].has_service ^= true,
            Edit::ToggleVolume(place) => domains[place].extra_volume ^= true,
            Edit::ToggleDomain if domains.len() > 1 => {
                domains.pop();
                domains[0].publishes = true;
            }
            Edit::ToggleDomain => {
                let free = |domain: &Domain| {
                    domains
                        .iter()
                        .all(|other| other.name != domain.name && other.host != domain.host)
                };
                let added = Domain::new("index", 11);
                if free(&added) {
                    domains.push(added);
                }
            }
            Edit::Memory(place, mib) => domains[place].memory_mib = mib,
            Edit::Vcpus(place, count) => domains[place].vcpus = count,
            Edit::Firmware(place, firmware) => domains[place].firmware = firmware,
            Edit::Network(part) => topology.network = part,
            Edit::DnsDomain(name) => topology.dns_domain = name,
            Edit::MovePort => {
                for domain in domains.iter_mut() {
                    domain.publishes ^= true;
                }
                // Exactly one has it.
                if domains.len() == 1 {
                    domains[0].publishes = true;
                }
            }
        }
    }
}

impl Behind {
    fn draw(rng: &mut Rng, topology: &Topology) -> Behind {
        let domain = rng.usize(..topology.domains.len());
        match rng.u8(..8) {
            0..3 => Behind::Virsh(VIRSH[rng.usize(..VIRSH.len())], domain),
            3 => Behind::NetworkDestroyed,
            4..6 => {
                let (signal, process) = SIGNALS[rng.usize(..SIGNALS.len())];
                Behind::Signal(signal, process)
            }
            _ => Behind::InGuest(IN_GUEST[rng.usize(..IN_GUEST.len())], domain),
        }
    }

    fn apply(self, deployment: &Deployment, topology: &Topology) -> anyhow::Result<()> {
        match self {
            Behind::Virsh(command, domain) => {
                let script = format!("virsh {command} {}", topology.domains[domain].name);
                in_lab(deployment, &script)
            }
            Behind::NetworkDestroyed => in_lab(
                deployment,
                &format!("virsh net-destroy {}", deployment.name),
            ),
            Behind::Signal(signal, process) => {
                for (pid, command) in processes_naming(&deployment.home().display().to_string())? {
                    if command.contains(process) {
                        // Another one may have ended it.
                        let _ = sh("kill", [&format!("-{signal}"), &pid.to_string()]);
                    }
                }
                Ok(())
            }
            Behind::InGuest(command, domain) => {
                let name = topology.domains[domain].name;
                let command = command.replace("NAME", name);
                // It may end the connection.
                deployment.run(&["ssh", name, "--", &command]).map(drop)
            }
        }
    }
}

fn in_lab(deployment: &Deployment, script: &str) -> anyhow::Result<()> {
    let command = ["lab", "exec", "--", "sh", "-c", script];
    deployment.run(&command)?.expect(0).map(drop)
}

/// The files at a place of the deployment's folder; none, if there is nothing.
fn files(deployment: &Deployment, place: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = deployment.home().join(place);
    if !path.is_dir() {
        return Ok(path.exists().then_some(path).into_iter().collect());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&path)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Edit(edit) => write!(f, "{edit:?}"),
            Step::Behind(behind) => write!(f, "{behind:?}"),
            Step::Remove(file) => write!(f, "remove {file}"),
            Step::Damage(file) => write!(f, "damage {file}"),
            Step::Killed { edit, after } => {
                write!(f, "{edit:?}, with SIGKILL after {} ms", after.as_millis())
            }
        }
    }
}
