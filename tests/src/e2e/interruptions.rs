//! Interrupted runs: SIGKILL at journal positions, Ctrl-C; what happens while `up` runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{Running, processes_naming, sh};
use pspd_tests::scenario::{Scenario, minutes};
use pspd_tests::wait::eventually;

use super::boots::{By, seen_inside};
use super::faults::{change_binary, kill_lab};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "up after SIGKILL at several journal positions",
        minutes(60),
        killed,
    ),
    Scenario::new(
        "Ctrl-C undoes what this run created",
        minutes(30),
        interrupted,
    ),
    Scenario::new("what happens while up runs", minutes(30), while_up_runs),
];

/// The number of lines in the current run's journal.
fn journal_lines(deployment: &Deployment) -> usize {
    fs::read_to_string(deployment.home().join("journal.jsonl"))
        .map_or(0, |text| text.lines().count())
}

/// Waits until the journal has `count` lines or the run has ended; returns whether it still runs.
pub(super) fn reaches(
    deployment: &Deployment,
    run: &mut Running,
    count: usize,
) -> anyhow::Result<bool> {
    let mut alive = true;
    eventually(
        "the journal to grow or the run to end",
        Duration::from_secs(120),
        || {
            alive = run.is_running()?;
            Ok(!alive || journal_lines(deployment) >= count)
        },
    )?;
    Ok(alive)
}

fn killed() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let mut kills = 0;
    for position in [1, 4, 8, 12, 16] {
        let mut run = deployment.spawn(&["up"])?;
        let alive = reaches(&deployment, &mut run, position)?;
        if alive {
            run.signal("KILL")?;
            kills += 1;
        }
        run.wait()?;
        deployment.run(&["up"])?.expect(0)?;
        deployment.run(&["plan"])?.expect(0)?;
        deployment.remove()?;
    }
    ensure!(kills >= 4, "only {kills} runs were killed before their end");
    let mut run = deployment.spawn(&["up"])?;
    reaches(&deployment, &mut run, 9)?;
    run.signal("KILL")?;
    run.wait()?;
    deployment.remove()
}

fn interrupted() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.edit("size: 256 MiB", "size: 1 GiB")?;
    let mut run = deployment.spawn(&["up"])?;
    ensure!(
        reaches(&deployment, &mut run, 10)?,
        "up ended before it could be interrupted"
    );
    run.signal("INT")?;
    let ran = run.wait()?.expect(130)?;
    ensure!(
        ran.stderr.to_lowercase().contains("undone"),
        "the undo is not reported:\n{}",
        ran.stderr
    );
    interrupted_while_pushing(&deployment)?;
    deployment.run(&["up"])?.expect(0)?;
    interrupted_while_merging(&deployment)?;
    deployment.remove()
}

/// A merge is ended with its process, and the next `up` completes it.
fn interrupted_while_merging(deployment: &Deployment) -> anyhow::Result<()> {
    kill_lab(deployment)?;
    // With its definitions, which do not have the overlay.
    fs::remove_dir_all(deployment.home().join("lab"))?;
    let volume = deployment.home().join("volumes/store.data.qcow2");
    let overlay = volume.with_extension("qcow2.snapshot");
    let [disk, over] = [&volume, &overlay].map(|path| path.display().to_string());
    let qcow2 = ["-f", "qcow2", "-F", "qcow2", "-b"];
    sh(
        "qemu-img",
        [&["create", "-q"], &qcow2[..], &[&disk, &over]].concat(),
    )?;
    // The same content, but all of it written.
    sh(
        "qemu-img",
        [
            "convert", "-n", "-S", "0", "-f", "qcow2", "-O", "qcow2", &disk, &over,
        ],
    )?;
    let written = || anyhow::Ok(fs::metadata(&volume)?.blocks() * 512);
    let before = written()?;
    let mut run = deployment.spawn(&["up"])?;
    eventually("the merge to write", Duration::from_secs(120), || {
        ensure!(run.is_running()?, "it ended before: {}", run.stderr()?);
        Ok(written()? > before + (32 << 20))
    })?;
    run.signal("TERM")?;
    let signalled = Instant::now();
    run.wait()?.expect(130)?;
    let took = signalled.elapsed();
    ensure!(took < Duration::from_secs(20), "`up` took {took:?} to end");
    let merging = processes_naming(&over)?;
    ensure!(merging.is_empty() && overlay.exists(), "{merging:?}");
    deployment.run(&["up"])?.expect(0)?;
    ensure!(!overlay.exists());
    deployment.run(&["plan"])?.expect(0).map(drop)
}

/// The guest's side of a push must not wait for the rest of the file.
fn interrupted_while_pushing(deployment: &Deployment) -> anyhow::Result<()> {
    let run = deployment.spawn(&["up"])?;
    eventually("a file to be pushed", Duration::from_secs(120), || {
        Ok(run.stderr()?.contains("pushing store"))
    })?;
    run.signal("INT")?;
    let signalled = Instant::now();
    run.wait()?.expect(130)?;
    ensure!(
        signalled.elapsed() < Duration::from_secs(60),
        "`up` took {:?} to end after Ctrl-C during a push",
        signalled.elapsed()
    );
    Ok(())
}

fn while_up_runs() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    edited(&deployment)?;
    seen_inside(&deployment, "seabios", "SeaBIOS", By::Hypervisor)?;
    two_at_once(&deployment)?;
    deployment.remove()
}

/// `up` applies the topology that it read at its start; the next run applies the edit.
fn edited(deployment: &Deployment) -> anyhow::Result<()> {
    let running = deployment.spawn(&["up"])?;
    eventually("`up` to read the topology", Duration::from_secs(30), || {
        Ok(running.stderr()?.contains(" steps"))
    })?;
    deployment.edit("environment: {", "environment: {LOG_LEVEL: debug, ")?;
    running.wait()?.expect(0)?;
    let plan = deployment.run(&["plan"])?.expect(4)?;
    ensure!(
        plan.stdout.contains("store"),
        "the plan has no step for the edit:\n{}",
        plan.stdout
    );
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}

fn two_at_once(deployment: &Deployment) -> anyhow::Result<()> {
    change_binary(deployment)?;
    let mut first = deployment.spawn(&["up"])?;
    eventually("`up` to work", Duration::from_secs(60), || {
        ensure!(first.is_running()?, "it ended before the second started");
        Ok(first.stderr()?.contains(" steps"))
    })?;
    let impatient = deployment.run(&["up", "--no-wait"])?.expect(5)?;
    ensure!(
        impatient.stderr.contains(&first.id().to_string()),
        "the process that holds the lock is not named:\n{}",
        impatient.stderr
    );
    let second = deployment.spawn(&["up"])?;
    first.wait()?.expect(0)?;
    second.wait()?.expect(0)?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}
