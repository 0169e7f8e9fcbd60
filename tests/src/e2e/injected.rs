//! Faults that pspd injects, looked at from inside the guests: while they are active, and after they ended.

mod harm;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say};
use pspd_tests::wait::eventually;
use serde_json::{Value, json};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "injected faults act, add up and end",
    minutes(30),
    injected,
)];

/// A bridge takes a moment to forward again after a link came up.
const SOON: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(300);

fn injected() -> anyhow::Result<()> {
    let deployment = Deployment::of(|deployment| {
        format!(
            "name: {}\nimages: {{debian: {{recipe: images/debian}}}}\ndomains:\n  \
             a: {{image: debian, memory: 192 MiB, address: 10.77.0.50}}\n  \
             b: {{image: debian, memory: 192 MiB, address: 10.77.0.51, disks: {{data: {{size: 64 MiB, mount: /srv/data}}}}}}\n",
            deployment.name
        )
    })?;
    deployment.run(&["up"])?.expect(0)?;
    connected(&deployment)?;
    say("a partition, and an isolation over it");
    overlapping(&deployment).context("overlapping faults")?;
    say("rules that are missing or left");
    mended(&deployment).context("what a killed run left")?;
    say("a link");
    link(&deployment).context("a link")?;
    say("delays");
    delays(&deployment).context("delays")?;
    say("faults for a time");
    timed(&deployment).context("faults for a time")?;
    say("less memory");
    memory(&deployment).context("less memory")?;
    say("a slow and full disk, a clock and processors");
    harm::begin(&deployment).context("what disturbs a guest from within")?;
    say("pause, kill and crash");
    power(&deployment).context("pause, kill and crash")?;
    say("what disturbs a guest, after it was started again");
    harm::end(&deployment).context("what disturbs a guest that was started again")?;
    deployment.run(&["fault", "isolate", "b"])?.expect(0)?;
    deployment.run(&["down"])?.expect(0)?;
    ensure!(active(&deployment)?.is_empty(), "`down` leaves faults");
    deployment.remove()
}

/// Whether packets get from `a` to `b` and back. The command reaches both by SSH, whatever is between them.
fn pings(deployment: &Deployment) -> anyhow::Result<bool> {
    let ping = "ping -q -c 3 -i 0.2 -W 1 10.77.0.51 >/dev/null && echo yes || echo no";
    Ok(deployment.ssh("a", ping)?.trim() == "yes")
}

fn connected(deployment: &Deployment) -> anyhow::Result<()> {
    eventually("`a` to reach `b`", SOON, || pings(deployment))
}

fn cut_off(deployment: &Deployment) -> anyhow::Result<()> {
    ensure!(!pings(deployment)?, "`a` reaches `b`");
    Ok(())
}

/// The ids of the faults that `status` lists.
fn active(deployment: &Deployment) -> anyhow::Result<Vec<Value>> {
    let status = deployment.status()?;
    let faults = status["faults"].as_array().context("status has faults")?;
    Ok(faults.iter().map(|fault| fault["id"].clone()).collect())
}

fn expect_active(deployment: &Deployment, ids: &[&str]) -> anyhow::Result<()> {
    let seen = active(deployment)?;
    ensure!(json!(seen) == json!(ids), "{seen:?} are active");
    deployment.run(&["plan"])?.expect(0)?;
    Ok(())
}

fn overlapping(deployment: &Deployment) -> anyhow::Result<()> {
    let run = |args: &[&str]| deployment.run(args)?.expect(0);
    let dry = run(&["fault", "partition", "a / b", "--dry-run"])?;
    ensure!(dry.stdout.contains("partition-1"), "{}", dry.stdout);
    connected(deployment)?;
    run(&["fault", "partition", "a", "/", "b"])?;
    cut_off(deployment)?;
    // pspd's own access is not affected.
    deployment.ssh("b", "true")?;
    run(&["fault", "isolate", "b"])?;
    expect_active(deployment, &["isolate-1", "partition-1"])?;
    run(&["heal", "partition-1"])?;
    cut_off(deployment)?;
    expect_active(deployment, &["isolate-1"])?;
    run(&["heal", "isolate-1"])?;
    connected(deployment)?;
    // What one side sends is lost, and what the other sends arrives without an answer.
    run(&["fault", "partition", "a / b", "--one-way"])?;
    cut_off(deployment)?;
    let counter = "cat /sys/class/net/eth0/statistics/rx_packets";
    let count = || anyhow::Ok(deployment.ssh("a", counter)?.trim().parse::<u64>()?);
    let before = count()?;
    deployment.ssh(
        "b",
        "ping -q -c 200 -i 0.002 -W 1 10.77.0.50 >/dev/null; true",
    )?;
    let arrived = count()? - before;
    ensure!(arrived >= 200, "{arrived} packets arrived");
    run(&["heal"])?;
    connected(deployment)?;
    expect_active(deployment, &[])
}

fn mended(deployment: &Deployment) -> anyhow::Result<()> {
    let run = |args: &[&str]| deployment.run(args)?.expect(0);
    let forget = "printf '*filter\\n:INPUT ACCEPT\\n:FORWARD ACCEPT\\n:OUTPUT ACCEPT\\n' | ebtables-nft-restore";
    run(&["fault", "partition", "a / b"])?;
    run(&["lab", "exec", "--", "sh", "-c", forget])?;
    connected(deployment)?;
    deployment.run(&["plan"])?.expect(4)?;
    run(&["up"])?;
    cut_off(deployment)?;
    let record = deployment.home().join("intent.json");
    std::fs::remove_file(&record)?;
    deployment.run(&["plan"])?.expect(4)?;
    run(&["heal"])?;
    connected(deployment)
}

fn link(deployment: &Deployment) -> anyhow::Result<()> {
    deployment
        .run(&["fault", "link", "b", "--down"])?
        .expect(0)?;
    cut_off(deployment)?;
    expect_active(deployment, &["link-1"])?;
    deployment.run(&["heal"])?.expect(0)?;
    connected(deployment)
}

/// The shortest of some round trips from `a` to `b`, in milliseconds.
fn round_trip(deployment: &Deployment) -> anyhow::Result<f64> {
    let ping = "ping -q -c 5 -i 0.2 -W 5 10.77.0.51 | sed -n 's|^rtt [^=]*= ||p'";
    let times = deployment.ssh("a", ping)?;
    let least = times.split('/').next().unwrap_or_default();
    least.trim().parse().with_context(|| format!("`{times}`"))
}

fn delays(deployment: &Deployment) -> anyhow::Result<()> {
    let run = |args: &[&str]| deployment.run(args)?.expect(0);
    let expect = |least: f64, most: f64| {
        let time = round_trip(deployment)?;
        ensure!((least..most).contains(&time), "a round trip took {time} ms");
        anyhow::Ok(())
    };
    run(&["fault", "delay", "a", "b", "--latency", "300ms"])?;
    expect(600.0, 900.0)?;
    run(&[
        "fault",
        "delay",
        "a",
        "b",
        "--latency",
        "400ms",
        "--one-way",
    ])?;
    expect(1000.0, 1300.0)?;
    expect_active(deployment, &["delay-1", "delay-2"])?;
    run(&["heal", "delay-1"])?;
    expect(400.0, 700.0)?;
    let booted = deployment.ssh("a", "cat /proc/sys/kernel/random/boot_id")?;
    let reboot = "(sleep 1; systemctl reboot) >/dev/null 2>&1 </dev/null &";
    deployment.ssh("a", reboot)?;
    eventually("the guest to boot again", BOOT, || {
        let now = deployment.ssh("a", "cat /proc/sys/kernel/random/boot_id");
        Ok(now.is_ok_and(|now| now != booted))
    })?;
    eventually("the delay to be applied again", SOON, || {
        Ok(deployment
            .ssh("a", "systemctl is-active pspd-shaping")
            .is_ok())
    })?;
    expect(400.0, 700.0)?;
    run(&["heal"])?;
    expect(0.0, 300.0)?;
    run(&["fault", "delay", "b", "a", "--loss", "100%", "--one-way"])?;
    cut_off(deployment)?;
    let refused = deployment.run(&["export", "archive.tar"])?.expect(1)?;
    refused.says("delays what it sends")?;
    run(&["heal"])?;
    connected(deployment)?;
    expect_active(deployment, &[])?;
    let left = deployment.ssh(
        "b",
        "tc qdisc show; ls /etc/pspd-shaping 2>/dev/null || true",
    )?;
    ensure!(!left.contains("netem") && !left.contains("pspd"), "{left}");
    Ok(())
}

fn timed(deployment: &Deployment) -> anyhow::Result<()> {
    let args = ["fault", "isolate", "b", "--for", "1s"];
    deployment.run(&args)?.expect(0)?;
    connected(deployment)?;
    expect_active(deployment, &[])?;
    let args = ["fault", "isolate", "b", "--for", "10s"];
    let running = deployment.spawn(&args)?;
    let record = deployment.home().join("intent.json");
    eventually("the fault to be recorded", SOON, || Ok(record.exists()))?;
    running.signal("KILL")?;
    running.wait()?;
    eventually("its time to be over", SOON, || {
        Ok(deployment.status()?["faults"][0]["left"] == 0)
    })?;
    deployment.run(&["plan"])?.expect(4)?;
    deployment.run(&["up"])?.expect(0)?;
    connected(deployment)?;
    expect_active(deployment, &[])
}

fn memory(deployment: &Deployment) -> anyhow::Result<()> {
    let total = || {
        let total = deployment.ssh(
            "b",
            "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo",
        )?;
        anyhow::Ok(total.parse::<u64>()?)
    };
    let before = total()?;
    deployment
        .run(&["fault", "memory", "b", "--to", "160MiB"])?
        .expect(0)?;
    eventually("memory to be taken", SOON, || Ok(total()? < before))?;
    expect_active(deployment, &["memory-1"])?;
    deployment.run(&["heal"])?.expect(0)?;
    eventually("memory to be given back", SOON, || Ok(total()? == before))?;
    expect_active(deployment, &[])
}

fn power(deployment: &Deployment) -> anyhow::Result<()> {
    for (fault, state) in [
        ("pause", "paused"),
        ("kill", "shut off"),
        ("crash", "crashed"),
    ] {
        deployment.run(&["fault", fault, "b"])?.expect(0)?;
        let seen = deployment.status()?["domains"][1]["state"].clone();
        ensure!(seen == state, "`b` is {seen}");
        deployment.run(&["up"])?.expect(0)?;
        let id = format!("{fault}-1");
        let mut ids = vec![id.as_str()];
        ids.extend(harm::IDS);
        ids.sort_unstable();
        expect_active(deployment, &ids)?;
        cut_off(deployment)?;
        deployment.run(&["heal", &id])?.expect(0)?;
        connected(deployment)?;
        expect_active(deployment, &harm::IDS)?;
    }
    Ok(())
}
