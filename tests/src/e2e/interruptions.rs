//! Ends of `pspd` in the middle of its work: SIGKILL at journal positions, Ctrl-C, two at once.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pspd_tests::deployment::{Deployment, Running, eventually};

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    ("SIGKILL of up at journal positions", killed),
    ("Ctrl-C undoes what this run created", interrupted),
    ("two ups at once", two_at_once),
];

/// Lines of the journal of the run that is under way.
fn journal_lines(deployment: &Deployment) -> usize {
    fs::read_to_string(deployment.home().join("journal.jsonl"))
        .map_or(0, |text| text.lines().count())
}

/// Waits until the run has written `count` lines more, or has ended.
fn reaches(deployment: &Deployment, run: &mut Running, count: usize) -> anyhow::Result<bool> {
    let mut alive = true;
    eventually(
        "the journal grows or the run ends",
        Duration::from_secs(120),
        || {
            alive = run.child.try_wait()?.is_none();
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
    let mut run = deployment.spawn(&["up"])?;
    ensure!(
        reaches(&deployment, &mut run, 10)?,
        "up ended before it could be interrupted"
    );
    run.signal("INT")?;
    let ran = run.wait()?.expect(130)?;
    ensure!(
        ran.stderr.to_lowercase().contains("undone"),
        "nothing is said of the undo:\n{}",
        ran.stderr
    );
    interrupted_while_pushing(&deployment)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.remove()
}

/// The guest's end of a push must not wait for the rest of the file.
fn interrupted_while_pushing(deployment: &Deployment) -> anyhow::Result<()> {
    let run = deployment.spawn(&["up"])?;
    eventually("a file is pushed", Duration::from_secs(120), || {
        Ok(run.stderr()?.contains("pushing store"))
    })?;
    run.signal("INT")?;
    let told = Instant::now();
    run.wait()?.expect(130)?;
    ensure!(
        told.elapsed() < Duration::from_secs(60),
        "a run that was interrupted while it pushed ended after {:?}",
        told.elapsed()
    );
    Ok(())
}

fn two_at_once() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let mut first = deployment.spawn(&["up"])?;
    ensure!(reaches(&deployment, &mut first, 3)?, "up ended at once");
    let impatient = deployment.run(&["up", "--no-wait"])?.expect(5)?;
    ensure!(
        impatient.stderr.contains(&first.child.id().to_string()),
        "the lock's holder is not named:\n{}",
        impatient.stderr
    );
    let second = deployment.spawn(&["up"])?;
    first.wait()?.expect(0)?;
    second.wait()?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    deployment.remove()
}
