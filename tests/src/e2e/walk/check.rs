//! What must hold after each step.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use serde_json::Value;

use super::topology::{Domain, Topology};

/// What was written on each volume, by domain and volume. A renamed domain has volumes of its own.
pub(super) type Written = HashMap<(&'static str, &'static str), String>;

/// How many of a service's last lines are looked for later.
const LINES: usize = 5;

/// `status` says that all is well, and each guest says the same from inside, but for what the notes of `plan` announce.
pub(super) fn all(
    deployment: &Deployment,
    topology: &Topology,
    notes: &str,
    written: &mut Written,
) -> anyhow::Result<()> {
    let ran = deployment.run(&["status", "--json"])?;
    let status = ran.json()?;
    ensure!(
        status["healthy"] == Value::Bool(true),
        "`status` (exit code {:?}) reports: {status}",
        ran.code()
    );
    let reported = status["domains"].as_array().map_or(0, Vec::len);
    ensure!(reported == topology.domains.len(), "`status`: {status}");
    for domain in &topology.domains {
        guest(deployment, topology, domain, notes, written)
            .with_context(|| format!("`{}` from inside", domain.name))?;
    }
    Ok(())
}

fn guest(
    deployment: &Deployment,
    topology: &Topology,
    domain: &Domain,
    notes: &str,
    written: &mut Written,
) -> anyhow::Result<()> {
    let facts = facts(deployment, topology, domain)?;
    let fact = |name: &str| facts.get(name).map_or("", String::as_str);
    let expect = |name: &str, expected: &str| {
        let found = fact(name);
        ensure!(found == expected, "{name}: `{found}`, not `{expected}`");
        Ok(())
    };
    expect("host name", domain.name)?;
    expect("address", &format!("{}/24", topology.address(domain)))?;
    let waits = format!("`{}` gets its ", domain.name);
    if !notes.lines().any(|note| note.contains(&waits)) {
        expect("processors", &domain.vcpus.to_string())?;
        let kib: u64 = fact("memory").parse().context("memory")?;
        let all = domain.memory_mib * 1024;
        // The kernel keeps a part for itself.
        ensure!(
            kib <= all && kib * 10 >= all * 7,
            "memory: {kib} KiB of {all} KiB"
        );
    }
    let unit = if domain.has_service {
        "active"
    } else {
        "inactive"
    };
    expect("service", unit)?;
    for other in &topology.domains {
        let name = format!("{}.{}", other.name, topology.dns_domain);
        expect(&name, &topology.address(other))?;
    }
    for (volume, mount) in domain.volumes() {
        expect(mount, "mounted")?;
        let file = format!("{mount}/walked");
        let kept = written.entry((domain.name, volume)).or_default();
        let found = fact(&file);
        ensure!(found == kept, "{file}: `{found}`, not `{kept}`");
        if kept.is_empty() {
            *kept = format!("{}/{volume}", domain.name);
            deployment.ssh(domain.name, &format!("echo {kept} > {file} && sync {file}"))?;
        }
    }
    Ok(())
}

/// What a guest says of itself, by name.
fn facts(
    deployment: &Deployment,
    topology: &Topology,
    domain: &Domain,
) -> anyhow::Result<HashMap<String, String>> {
    let mut script = format!(
        "say() {{ echo \"$1=$2\"; }}\n\
         say 'host name' $(hostname)\n\
         say address $(ip -4 -o address show | awk '$2 != \"lo\" {{ print $4 }}')\n\
         say processors $(nproc)\n\
         say memory $(awk '/^MemTotal/ {{ print $2 }}' /proc/meminfo)\n\
         say service $(systemctl is-active {})\n",
        domain.name
    );
    for other in &topology.domains {
        let name = format!("{}.{}", other.name, topology.dns_domain);
        script += &format!("say {name} $(getent ahostsv4 {name} | awk 'NR == 1 {{ print $1 }}')\n");
    }
    for (_, mount) in domain.volumes() {
        script += &format!(
            "mountpoint -q {mount} && say {mount} mounted\n\
             say {mount}/walked $(cat {mount}/walked)\n"
        );
    }
    let said = deployment.ssh(domain.name, &(script + "true"))?;
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// The last lines that each service logged, which an orderly stop must not lose.
pub(super) fn last_lines(
    deployment: &Deployment,
    topology: &Topology,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut all = Vec::new();
    for domain in topology.domains.iter().filter(|domain| domain.has_service) {
        let command = format!("journalctl -u {} -o cat -n {LINES} --no-pager", domain.name);
        let lines = deployment.ssh(domain.name, &command)?;
        all.extend(lines.lines().map(|line| (domain.name, line.to_owned())));
    }
    Ok(all)
}

/// What was logged before an orderly stop is in `pspd logs`, even of a domain that was removed.
pub(super) fn kept_logs(
    deployment: &Deployment,
    logged: &[(&'static str, String)],
) -> anyhow::Result<()> {
    let mut shown: HashMap<&str, String> = HashMap::new();
    for (name, line) in logged {
        if !shown.contains_key(name) {
            let logs = deployment.run(&["logs", name, "--raw"])?.expect(0)?;
            shown.insert(name, logs.stdout);
        }
        ensure!(
            shown[name].contains(line.as_str()),
            "`pspd logs {name}` has lost `{line}`"
        );
    }
    Ok(())
}
