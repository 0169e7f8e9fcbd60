//! An experiment on one guest: a power cut under load, with checks that hold, and one that cannot.

use std::fs;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say};
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("experiments", minutes(20), experiments).large()];

const POWER_CUT: &str = "\
name: power-cut
snapshot: clean
load: {target: store, documents: 4, rate: 20/s, time_limit: 5s}
phases:
  - {name: before, for: 5s}
  - name: cut
    for: 10s
    steps:
      - {at: 1s, fault: kill store, for: 2s}
  - {name: after, for: 5s}
recovery: 5m
";

fn experiments() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["snapshot", "save", "clean"])?.expect(0)?;

    let path = deployment.folder().join("experiment.yaml");
    let run = |text: &str| {
        fs::write(&path, text)?;
        let path = path.display().to_string();
        deployment.run(&["experiment", "run", &path, "--json"])
    };
    say("a file with errors is refused, and nothing is done");
    let refused = run(&POWER_CUT.replace("kill store", "kill stor"))?.expect(3)?;
    refused.says("deployment `")?.says("has no domain `stor`")?;

    say("a power cut under load, from a snapshot");
    let report = run(POWER_CUT)?.expect(0)?.json()?;
    let run_of = |report: &Value| report["runs"][0].clone();
    let first = run_of(&report);
    ensure!(
        failed(&first).is_empty() && report["passed"] == true,
        "{first}"
    );
    let history = &first["history"];
    let count = |key: &str| history[key].as_u64().unwrap_or(0);
    // A quarter of the calls are writes of shared documents, and before the cut all are answered.
    ensure!(
        count("acknowledged_writes") > 30 && count("reads") > 30,
        "{history}"
    );
    ensure!(
        count("unanswered_writes") > 0,
        "no write was under way at the cut: {history}"
    );
    let recovery = first["faults"][0]["recovery"].as_f64();
    ensure!(recovery.is_some_and(|time| time > 1.0), "{first}");
    let states = first["health"]["store"]
        .as_array()
        .context("the health of `store`")?;
    let states: Vec<&Value> = states.iter().map(|change| &change["state"]).collect();
    ensure!(states.contains(&&Value::from("unreachable")), "{states:?}");
    let page = fs::read_to_string(deployment.folder().join("power-cut.html"))?;
    ensure!(
        page.contains("all checks hold: 1 of 1 runs passed") && page.contains("kill store"),
        "{page}"
    );

    say("a bound that cannot hold is an exit code");
    let strict = POWER_CUT.replace("for: 10s\n", "for: 10s\n    errors: 0%\n");
    let report = run(&strict)?.expect(1)?.json()?;
    let second = run_of(&report);
    ensure!(failed(&second) == ["errors of `cut`"], "{second}");
    let status = deployment.status()?;
    ensure!(
        status["healthy"] == true && status["faults"] == Value::Array(Vec::new()),
        "{status}"
    );
    deployment.remove()
}

/// The names of the checks that do not hold.
fn failed(run: &Value) -> Vec<String> {
    let checks = run["checks"].as_array().into_iter().flatten();
    let failed = checks.filter(|check| check["passed"] != true);
    failed
        .filter_map(|check| Some(check["name"].as_str()?.to_owned()))
        .collect()
}
