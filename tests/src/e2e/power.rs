//! Power states that something other than pspd brought about, and the commands for power.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::sh;
use pspd_tests::scenario::{Scenario, minutes, say};
use pspd_tests::wait::eventually;
use serde_json::Value;

use super::clock;

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
    commands(&deployment)?;
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

/// What the user stopped, paused or saved is not drift; `up` starts it and says so.
fn commands(deployment: &Deployment) -> anyhow::Result<()> {
    let record = deployment.home().join("intent.json");
    let as_asked = |state: &str, detail: &str| -> anyhow::Result<()> {
        expect_state(deployment, state, detail)?;
        let plan = deployment.run(&["plan"])?.expect(0)?;
        ensure!(plan.stdout == "nothing to do\n", "{}", plan.stdout);
        Ok(())
    };
    say("stop, and up");
    deployment
        .run(&["stop", "store"])?
        .expect(0)?
        .says("stopped `store`")?;
    as_asked("shut off", "stopped by the user")?;
    deployment
        .run(&["pause", "store"])?
        .expect(1)?
        .says("Run `pspd start` to start it")?;
    let note = "starting `store`, which the user stopped";
    deployment.run(&["up"])?.expect(0)?.says(note)?;
    ensure!(!record.exists(), "`up` kept the intent");
    as_asked("running", "")?;

    say("restart");
    let now = || -> anyhow::Result<(String, String)> {
        let boot = deployment.ssh("store", "cat /proc/sys/kernel/random/boot_id")?;
        Ok((process(deployment)?, boot))
    };
    let (process_before, boot_before) = now()?;
    deployment
        .run(&["restart"])?
        .expect(0)?
        .says("restarted `store`")?;
    let (process_after, boot_after) = now()?;
    ensure!(
        process_after == process_before,
        "a restart made another process"
    );
    ensure!(boot_after != boot_before, "the guest did not restart");
    deployment.run(&["restart", "--cold", "store"])?.expect(0)?;
    ensure!(process(deployment)? != process_before, "the process stayed");
    as_asked("running", "")?;

    say("pause and resume");
    deployment.run(&["pause"])?.expect(0)?;
    as_asked("paused", "paused by the user")?;
    std::thread::sleep(STILL);
    deployment.run(&["resume"])?.expect(0)?;
    as_asked("running", "")?;
    clock::follows(deployment, "store")?;

    say("save and restore");
    deployment.ssh(
        "store",
        "sh -c 'sleep 10000 >/dev/null 2>&1 & echo $! >/run/kept'",
    )?;
    deployment.run(&["save"])?.expect(0)?;
    as_asked("shut off", "saved by the user")?;
    deployment.run(&["restore", "store"])?.expect(0)?;
    as_asked("running", "")?;
    deployment.ssh("store", "kill -0 $(cat /run/kept)")?;

    say("damaged memory is refused");
    deployment.run(&["save", "store"])?.expect(0)?;
    damage(&deployment.home().join("memory/store.mem"))?;
    deployment.run(&["restore"])?.expect(1)?;
    let refused = deployment.run(&["restore", "store"])?.expect(1)?;
    refused.says("the saved memory of `store` cannot be restored: its file is damaged")?;
    let note = "`store` boots instead of continuing from its saved memory: its file is damaged";
    deployment.run(&["up"])?.expect(0)?.says(note)?;
    as_asked("running", "")?;

    say("other sizes");
    deployment
        .run(&["set", "store", "--memory", "256 MiB"])?
        .expect(0)?
        .says("`pspd up` restores that")?;
    deployment.run(&["plan"])?.expect(4)?;
    deployment.run(&["up"])?.expect(0)?;
    as_asked("running", "")
}

/// How long a guest is paused.
const STILL: Duration = Duration::from_secs(5);

/// The id of the domain's process.
fn process(deployment: &Deployment) -> anyhow::Result<String> {
    let command = ["lab", "exec", "--", "pidof", "qemu-system-x86_64"];
    Ok(deployment.run(&command)?.expect(0)?.stdout)
}

/// Changes one byte in the middle of a file.
pub(super) fn damage(file: &Path) -> anyhow::Result<()> {
    let file = fs::File::options().read(true).write(true).open(file)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&[!byte[0]], middle)?;
    Ok(())
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
