//! Power states that something other than pspd brought about, and what the user asked for beside the topology.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::sh;
use pspd_tests::scenario::{Scenario, minutes};
use pspd_tests::wait::eventually;
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "power states are reported and handled",
    minutes(40),
    power_states,
)];

/// How a state comes about, and what `status` says of it.
const STATES: [(&str, &str, &str, &str); 3] = [
    ("a paused domain", "virsh suspend store", "paused", ""),
    (
        "a killed process",
        "kill -9 $(pidof qemu-system-x86_64)",
        "crashed",
        "the hypervisor's process ended unexpectedly",
    ),
    (
        "a saved domain",
        "virsh managedsave store",
        "shut off",
        "its memory is saved; the next start restores it",
    ),
];

fn power_states() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.run(&["up"])?.expect(0)?;
    for (what, script, state, detail) in STATES {
        in_lab(&deployment, script).with_context(|| what.to_owned())?;
        // libvirt notices the end of a process after a moment.
        eventually("libvirt to notice", Duration::from_secs(60), || {
            Ok(state_of(&deployment)? != "running")
        })?;
        expect_state(&deployment, state, detail).with_context(|| what.to_owned())?;
        deployment.run(&["plan"])?.expect(4)?;
        deployment.run(&["up"])?.expect(0)?;
        expect_state(&deployment, "running", "").with_context(|| what.to_owned())?;
        deployment.run(&["plan"])?.expect(0)?;
    }
    stopped_process(&deployment)?;
    stopped_by_the_user(&deployment)?;
    in_lab(&deployment, "virsh managedsave store")?;
    deployment.run(&["down"])?.expect(0)?;
    deployment.remove()
}

/// Nothing waits for a guest whose process is stopped: `status` and `up` name the process, and what continues it.
fn stopped_process(deployment: &Deployment) -> anyhow::Result<()> {
    in_lab(deployment, "kill -STOP $(pidof qemu-system-x86_64)")?;
    let up = deployment.run(&["up"])?.expect(1)?;
    let (_, pid) = up
        .stderr
        .split_once("of domain `store` is stopped. Run `kill -CONT ")
        .with_context(|| up.stderr.clone())?;
    let pid = pid.split_once('`').context("the command has no end")?.0;
    ensure!(
        up.elapsed < Duration::from_secs(20),
        "`up` took {:?}",
        up.elapsed
    );
    let detail = format!("its process {pid} is stopped. Run `kill -CONT {pid}` to continue it");
    expect_state(deployment, "paused", &detail)?;
    sh("kill", ["-CONT", pid])?;
    deployment.run(&["up"])?.expect(0)?;
    expect_state(deployment, "running", "")?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}

/// A domain that the user stopped is no drift; `up` starts it and says so.
fn stopped_by_the_user(deployment: &Deployment) -> anyhow::Result<()> {
    let record = deployment.home().join("intent.json");
    in_lab(deployment, "virsh destroy store")?;
    deployment.run(&["plan"])?.expect(4)?;
    fs::write(&record, r#"{"version": 1, "power": {"store": "stopped"}}"#)?;
    let plan = deployment.run(&["plan"])?.expect(0)?;
    ensure!(plan.stdout == "nothing to do\n", "{}", plan.stdout);
    expect_state(deployment, "shut off", "stopped by the user")?;
    let up = deployment.run(&["up"])?.expect(0)?;
    let note = "starting `store`, which the user stopped";
    ensure!(up.stderr.contains(note), "{}", up.stderr);
    ensure!(!record.exists(), "`up` kept the intent");
    expect_state(deployment, "running", "")
}

fn in_lab(deployment: &Deployment, script: &str) -> anyhow::Result<()> {
    let command = ["lab", "exec", "--", "sh", "-c", script];
    deployment.run(&command)?.expect(0).map(drop)
}

fn state_of(deployment: &Deployment) -> anyhow::Result<String> {
    let state = &deployment.status()?["domains"][0]["state"];
    Ok(state.as_str().unwrap_or_default().to_owned())
}

fn expect_state(deployment: &Deployment, state: &str, detail: &str) -> anyhow::Result<()> {
    let status = deployment.status()?;
    let domain = &status["domains"][0];
    let seen = (domain["state"].as_str(), domain["detail"].as_str());
    let expected = (Some(state), (!detail.is_empty()).then_some(detail));
    ensure!(
        seen == expected,
        "`status` reports {seen:?} instead of {expected:?}"
    );
    let healthy = status["healthy"] == Value::Bool(true);
    ensure!(healthy == (state == "running"), "healthy: {healthy}");
    Ok(())
}
