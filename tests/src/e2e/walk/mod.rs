//! A random walk over a real deployment: after each step, what `up`, `plan` and `status` say is what the guests say.
//!
//! ```text
//! draw a step ─► do it ─► `up` (─► what its error asks of a person ─► `up`) ─► check all guests ─► the next step
//! ```
//!
//! A seed always draws the same steps. `make soak` walks further than the scenarios do; a walk that fails names its seed and
//! its steps.

mod check;
mod step;
mod topology;

use std::fs;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::sh;
use pspd_tests::scenario::{Scenario, minutes, say};

use check::Written;
use step::Step;
use topology::Topology;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a random walk with one domain", minutes(60), one_domain),
    Scenario::new("a random walk with two domains", minutes(60), two_domains).large(),
];

fn one_domain() -> anyhow::Result<()> {
    from_environment(2026, 1, 5)
}

fn two_domains() -> anyhow::Result<()> {
    from_environment(7, 2, 5)
}

/// `WALK_SEED` and `WALK_STEPS` replace what a scenario walks by default.
fn from_environment(seed: u64, domains: usize, steps: u64) -> anyhow::Result<()> {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}: {text}")),
        Err(_) => Ok(default),
    };
    walk(
        number("WALK_SEED", seed)?,
        number("WALK_STEPS", steps)?,
        domains,
    )
}

fn walk(seed: u64, steps: u64, domains: usize) -> anyhow::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let mut topology = Topology::new(domains);
    let deployment = topology.deployment()?;
    let mut written = Written::default();
    deployment.run(&["up"])?.expect(0)?;
    check::all(&deployment, &topology, "", &mut written).context("after the first `up`")?;
    let mut done = Vec::new();
    for number in 1..=steps {
        let step = Step::draw(&mut rng, &topology);
        say(&format!("step {number}: {step}"));
        done.push(step.to_string());
        one(&step, &deployment, &mut topology, &mut written)
            .with_context(|| format!("WALK_SEED={seed}, steps: {}", done.join("; ")))?;
    }
    settle(&deployment, &["down"])?;
    deployment.remove()
}

fn one(
    step: &Step,
    deployment: &Deployment,
    topology: &mut Topology,
    written: &mut Written,
) -> anyhow::Result<()> {
    let logged = check::last_lines(deployment, topology);
    step.apply(deployment, topology)?;
    settle(deployment, &["up"])?;
    let plan = deployment.run(&["plan"])?;
    ensure!(
        plan.code() == Some(0),
        "a second plan is not empty:\n{}{}",
        plan.stdout,
        plan.stderr
    );
    let notes = format!("{}{}", plan.stdout, plan.stderr);
    check::all(deployment, topology, &notes, written)?;
    if step.is_orderly() {
        check::kept_logs(deployment, &logged?)?;
    }
    Ok(())
}

/// Runs a command, and again after what its error asks for.
fn settle(deployment: &Deployment, command: &[&str]) -> anyhow::Result<()> {
    // Each of the keys may be damaged.
    for _ in 0..10 {
        let ran = deployment.run(command)?;
        if let Some(pid) = between(&ran.stderr, "`kill -CONT ", "`") {
            sh("kill", ["-CONT", pid])?;
        } else if let Some(file) = between(&ran.stderr, "error: `", "` is damaged. Remove it") {
            fs::remove_file(file).with_context(|| file.to_owned())?;
        } else {
            return ran.expect(0).map(drop);
        }
    }
    deployment.run(command)?.expect(0).map(drop)
}

/// What a person is asked to act on.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
