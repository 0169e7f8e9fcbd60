//! States of a guest that are its own doing: a clock, a panic, a sleep, and a full disk of the host.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::sh;
use pspd_tests::scenario::{Scenario, minutes, root};
use pspd_tests::wait::eventually;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "a guest's clock, sleep, panic and saved memory are handled",
        minutes(30),
        states,
    ),
    Scenario::new(
        "a guest paused by a full disk of the host resumes",
        minutes(15),
        full_disk,
    )
    .needs(root),
];

/// libvirt and the guest take a moment to notice, and longer on a slow machine.
const SOON: Duration = Duration::from_secs(60);
const SERVING: &str = r#""message":"serving""#;

/// A domain of 192 MiB with the database service; `domain` adds lines to it.
fn small(domain: &str) -> anyhow::Result<Deployment> {
    Deployment::of(|deployment| {
        format!(
            "name: {}\nimages: {{debian: {{recipe: images/debian}}}}\ndomains:\n  store:\n    image: debian\n    \
             memory: 192 MiB\n    address: 10.77.0.40\n    service:\n      binary: {}\n      port: 50051\n      \
             health: database.DatabaseService\n      environment: {{DATABASE_STORE: /var/lib/store/store.sqlite}}\n{domain}",
            deployment.name,
            deployment.binary("database-server").display()
        )
    })
}

fn states() -> anyhow::Result<()> {
    let deployment = small("")?;
    deployment.run(&["up"])?.expect(0)?;
    clock(&deployment).context("a clock that is years off")?;
    sleep(&deployment).context("a guest that suspended itself")?;
    panic(&deployment).context("a kernel that panicked")?;
    saved(&deployment).context("a saved state")?;
    renamed(&deployment).context("an address that changes hands")?;
    crash(&deployment, "shop")?;
    let began = Instant::now();
    deployment.run(&["down"])?.expect(0)?;
    let took = began.elapsed();
    ensure!(
        took < Duration::from_secs(20),
        "`down` waited {took:?} for a guest that panicked"
    );
    let kept = deployment.run(&["logs", "store", "--raw"])?.expect(0)?;
    ensure!(kept.stdout.contains(SERVING), "{}", kept.stdout);
    deployment.remove()
}

fn state(deployment: &Deployment) -> anyhow::Result<(String, String)> {
    let status = deployment.status()?;
    let text = |key: &str| {
        let value = status["domains"][0][key].as_str();
        value.unwrap_or_default().to_owned()
    };
    Ok((text("state"), text("detail")))
}

fn expect_healthy(deployment: &Deployment) -> anyhow::Result<()> {
    deployment.run(&["status"])?.expect(0)?;
    let plan = deployment.run(&["plan"])?.expect(0)?;
    ensure!(plan.stdout == "nothing to do\n", "{}", plan.stdout);
    Ok(())
}

/// How often a service began to serve, as its log has it.
fn starts(deployment: &Deployment) -> anyhow::Result<usize> {
    let logs = deployment.run(&["logs", "store", "--raw"])?.expect(0)?;
    Ok(logs.stdout.matches(SERVING).count())
}

fn clock(deployment: &Deployment) -> anyhow::Result<()> {
    let before = starts(deployment)?;
    deployment.ssh("store", "date -u -s '+2 years'")?;
    let status = deployment.run(&["status"])?.expect(4)?;
    ensure!(
        status.stdout.contains("the guest's clock is wrong"),
        "{}",
        status.stdout
    );
    // What is logged in the future, and then behind it.
    deployment.ssh("store", "systemctl restart store")?;
    eventually("the future's lines", SOON, || {
        Ok(starts(deployment)? == before + 1)
    })?;
    let up = deployment.run(&["up"])?.expect(0)?;
    up.says("the clock of `store` was 730 days ahead; it was set")?;
    expect_healthy(deployment)?;
    let now = starts(deployment)?;
    deployment.ssh("store", "systemctl restart store")?;
    eventually("the lines behind it", SOON, || {
        Ok(starts(deployment)? == now + 1)
    })
}

fn sleep(deployment: &Deployment) -> anyhow::Result<()> {
    in_a_moment(deployment, "store", "echo mem >/sys/power/state")?;
    eventually("the guest to suspend itself", SOON, || {
        Ok(state(deployment)?.0 == "pmsuspended")
    })?;
    deployment.run(&["up"])?.expect(0)?;
    expect_healthy(deployment)
}

fn panic(deployment: &Deployment) -> anyhow::Result<()> {
    let mut following = deployment.spawn(&["logs", "-f", "--raw"])?;
    let serving = |text: String| text.matches(SERVING).count();
    eventually("the log so far", SOON, || {
        Ok(serving(following.stdout()?) > 0)
    })?;
    let before = serving(following.stdout()?);
    crash(deployment, "store")?;
    deployment.run(&["up"])?.expect(0)?;
    expect_healthy(deployment)?;
    eventually("the log of the next boot", SOON, || {
        ensure!(following.is_running()?, "{}", following.stderr()?);
        Ok(serving(following.stdout()?) > before)
    })?;
    following.signal("INT")?;
    following.wait()?.expect(0).map(drop)
}

fn crash(deployment: &Deployment, domain: &str) -> anyhow::Result<()> {
    in_a_moment(deployment, domain, "echo c >/proc/sysrq-trigger")?;
    eventually("the panic", SOON, || Ok(state(deployment)?.0 == "crashed"))?;
    let (_, detail) = state(deployment)?;
    ensure!(detail == "the guest's kernel panicked", "{detail}");
    Ok(())
}

/// Runs a command after its SSH session has ended.
fn in_a_moment(deployment: &Deployment, domain: &str, command: &str) -> anyhow::Result<()> {
    let command = format!("(sleep 1; {command}) >/dev/null 2>&1 </dev/null &");
    deployment.ssh(domain, &command).map(drop)
}

/// Saved memory is of the machine that was saved: it is not restored into one with other memory.
fn saved(deployment: &Deployment) -> anyhow::Result<()> {
    let save = ["lab", "exec", "--", "virsh", "managedsave", "store"];
    deployment.run(&save)?.expect(0)?;
    deployment.edit("memory: 192 MiB", "memory: 224 MiB")?;
    let up = deployment.run(&["up"])?.expect(0)?;
    up.says("`store` boots instead of continuing from its saved memory")?;
    expect_healthy(deployment)
}

/// The address has another MAC at once.
fn renamed(deployment: &Deployment) -> anyhow::Result<()> {
    deployment.edit("  store:\n", "  shop:\n")?;
    deployment.edit("/var/lib/store/", "/var/lib/shop/")?;
    deployment.run(&["up"])?.expect(0)?;
    expect_healthy(deployment)
}

fn full_disk() -> anyhow::Result<()> {
    let deployment = small("    disks: {data: {size: 256 MiB, mount: /var/lib/store}}\n")?;
    let volumes = deployment.home().join("volumes");
    fs::create_dir_all(&volumes)?;
    let path = volumes.display().to_string();
    let options = ["-t", "tmpfs", "-o", "size=48m,mode=0700", "pspd-test"];
    sh("mount", [&options[..], &[&path]].concat())?;
    let story = || -> anyhow::Result<()> {
        deployment.run(&["up"])?.expect(0)?;
        let fill = "dd if=/dev/urandom of=/var/lib/store/filler bs=1M count=64 conv=fsync";
        in_a_moment(&deployment, "store", fill)?;
        eventually("the guest to pause", SOON, || {
            Ok(state(&deployment)?.0 == "paused")
        })?;
        // The first resume fails after QEMU's report of the first error was sent, the second one before it may send another.
        for _ in 0..2 {
            let (_, detail) = state(&deployment)?;
            ensure!(detail.contains("the host's disk is full"), "{detail}");
            let resume = ["lab", "exec", "--", "virsh", "resume", "store"];
            deployment.run(&resume)?.expect(0)?;
            eventually("the guest to pause again", SOON, || {
                Ok(state(&deployment)?.0 == "paused")
            })?;
        }
        let (_, detail) = state(&deployment)?;
        ensure!(detail.contains("the host's disk is full"), "{detail}");
        let up = deployment.run(&["up"])?.expect(1)?;
        up.says("`store` does not answer: paused because a disk could not be written")?;
        sh("mount", ["-o", "remount,size=256m", &path])?;
        deployment.run(&["up"])?.expect(0)?;
        expect_healthy(&deployment)
    };
    let result = story();
    deployment.run(&["down"])?;
    sh("umount", ["--lazy", &path])?;
    result?;
    deployment.remove()
}
