//! What `pspd up`, `plan` and `status` cost by the number of domains and of hosts, and what a lab costs.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::processes_naming;

use super::hosts::{hosts, machines};
use super::up::{Cost, watched};
use super::{median, say};

const RUNS: usize = 5;

pub(crate) fn by_domains() -> anyhow::Result<()> {
    for count in [100, 300, 1000] {
        planned(count)?;
    }
    for count in [3, 10, 30] {
        running(count)?;
    }
    Ok(())
}

pub(crate) fn by_hosts() -> anyhow::Result<()> {
    planned_over_hosts(1000)?;
    for count in [1, 3, 10] {
        over_hosts(count)?;
    }
    Ok(())
}

/// Domains that are defined on no libvirt but that of its test driver, which starts none.
fn planned(count: usize) -> anyhow::Result<()> {
    let deployment = Deployment::of(|deployment| {
        let name = &deployment.name;
        let domains = domains(count, |_| String::new());
        format!("name: {name}\nconnection: test:///default\n{NETWORK}domains:\n{domains}")
    })?;
    let what = format!("{count} domains of libvirt's test driver");
    looks(&deployment, &what, &["plan", "status"])
}

/// Domains of this machine's lab, which run.
fn running(count: usize) -> anyhow::Result<()> {
    let deployment = Deployment::of(|deployment| {
        let (name, domains) = (&deployment.name, domains(count, |_| String::new()));
        format!("name: {name}\n{NETWORK}domains:\n{domains}")
    })?;
    let what = format!("{count} domains in one lab");
    brings_up(&deployment, &what)?;
    looks(&deployment, &what, &["plan", "status"])?;
    let lab = Memory::of_lab(&deployment)?;
    say(&format!(
        "{what}: memory {:.0} MiB of the lab and libvirt, {:.0} MiB of each domain's QEMU with 384 MiB for its guest",
        lab.own,
        lab.guests / count as f64,
    ));
    deployment.run(&["down", "--volumes"])?.expect(0)?;
    deployment.remove()
}

/// Nothing of it is up.
fn planned_over_hosts(count: usize) -> anyhow::Result<()> {
    let machines = machines::<10>()?;
    let deployment = Deployment::of(|deployment| {
        let (name, hosts) = (&deployment.name, hosts(&machines));
        let domains = domains(count, |index| format!(", host: h{}", index % 10));
        format!("name: {name}\n{NETWORK}{hosts}domains:\n{domains}")
    })?;
    // Copies pspd to them.
    deployment.run(&["plan"])?.expect(4)?;
    let what = format!("{count} domains over 10 hosts");
    looks(&deployment, &what, &["plan"])?;
    deployment.remove()
}

/// A domain on each host.
fn over_hosts(count: usize) -> anyhow::Result<()> {
    let mut machines = machines::<10>()?;
    let deployment = Deployment::of(|deployment| {
        let (name, hosts) = (&deployment.name, hosts(&machines[..count]));
        let domains = domains(count, |index| format!(", host: h{index}"));
        format!("name: {name}\n{NETWORK}{hosts}domains:\n{domains}")
    })?;
    let what = format!("{count} domains over as many hosts");
    brings_up(&deployment, &what)?;
    looks(&deployment, &what, &["plan", "status"])?;
    if let [dead, _, ..] = &mut machines[..count] {
        dead.cut();
        looks(
            &deployment,
            &format!("{what}, one of them dead"),
            &["status"],
        )?;
        dead.serve()?;
    }
    deployment.run(&["down", "--volumes"])?.expect(0)?;
    deployment.remove()
}

const NETWORK: &str = "network: {cidr: 10.77.0.0/16}\n";

fn domains(count: usize, keys: impl Fn(usize) -> String) -> String {
    let domain = |index| {
        let keys = keys(index);
        format!("  d{index}: {{image: debian, memory: 384 MiB{keys}}}\n")
    };
    (0..count).map(domain).collect()
}

fn brings_up(deployment: &Deployment, what: &str) -> anyhow::Result<()> {
    let Cost {
        memory_kib,
        cpu,
        wall,
    } = watched(deployment)?;
    say(&format!(
        "{what}: `pspd up` {wall:.1} s, of which {cpu:.2} s of its own processor; {:.0} MiB",
        memory_kib as f64 / 1024.0
    ));
    Ok(())
}

/// Commands that look, until they end.
fn looks(deployment: &Deployment, what: &str, commands: &[&str]) -> anyhow::Result<()> {
    for command in commands {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let ran = deployment.run(&[command])?;
            // 4: it differs.
            ensure!(
                matches!(ran.code(), Some(0 | 4)),
                "`pspd {command}` failed: {}",
                ran.stderr
            );
            runs.push(ran.elapsed);
        }
        say(&format!(
            "{what}: `pspd {command}` median {:.2} s of {RUNS} runs",
            median(&runs)
        ));
    }
    Ok(())
}

/// In MiB; what processes share is counted once.
struct Memory {
    /// Of the lab, its libvirt and what belongs to them.
    own: f64,
    /// Of QEMU.
    guests: f64,
}

impl Memory {
    fn of_lab(deployment: &Deployment) -> anyhow::Result<Memory> {
        let supervisor = format!("lab-supervisor {}", deployment.home().display());
        let found = processes_naming(&supervisor)?;
        let (supervisor, _) = found.first().context("no lab runs")?;
        let mut parents = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            // It may have ended.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let (_, fields) = stat.rsplit_once(')').context("no fields")?;
            let parent = fields.split_whitespace().nth(1).context("no parent")?;
            parents.insert(pid, parent.parse::<u32>()?);
        }
        let is_in_lab = |pid: u32| {
            let mut at = Some(pid);
            while let Some(pid) = at.filter(|pid| pid != supervisor) {
                at = parents.get(&pid).copied();
            }
            at.is_some()
        };
        let mut memory = Memory {
            own: 0.0,
            guests: 0.0,
        };
        for pid in parents.keys().copied().filter(|pid| is_in_lab(*pid)) {
            let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
            let (Ok(name), Ok(rollup)) = (file("comm"), file("smaps_rollup")) else {
                continue;
            };
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kib = line.context("no Pss")?.trim().trim_end_matches(" kB");
            let mib = kib.parse::<f64>()? / 1024.0;
            match name.starts_with("qemu") {
                true => memory.guests += mib,
                false => memory.own += mib,
            }
        }
        Ok(memory)
    }
}
