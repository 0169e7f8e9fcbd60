//! What `pspd init` writes comes up as it is, in an empty folder and without a compiler.

use std::fs;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes};
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "an empty folder becomes a healthy service",
        minutes(20),
        demo,
    ),
    Scenario::new(
        "the examples without services",
        minutes(30),
        without_services,
    ),
];

fn demo() -> anyhow::Result<()> {
    let deployment = Deployment::demo()?;
    let topology = fs::read(deployment.folder().join("topology.yaml"))?;
    deployment
        .run(&["init"])?
        .expect(1)?
        .says("already exist. Pass --force")?;
    ensure!(fs::read(deployment.folder().join("topology.yaml"))? == topology);

    deployment.run(&["up"])?.expect(0)?;
    let status = deployment.run(&["status", "--json"])?.expect(0)?.json()?;
    ensure!(
        status["domains"][0]["service"]["health"] == "serving",
        "{status:#}"
    );
    let call = |method: &str, message: &str| {
        let called = deployment.run(&["call", "hello", method, message])?;
        called.expect(0)
    };
    let answer = call("Echo", r#"{"text": "hi"}"#)?.json()?;
    ensure!(
        answer["text"] == "hi" && answer["server"] == "hello",
        "{answer}"
    );
    let answers = call("EchoStream", r#"{"text": "a"} {"text": "b"}"#)?.stdout;
    let texts: Vec<Value> = serde_json::Deserializer::from_str(&answers)
        .into_iter::<Value>()
        .map(|answer| Ok(answer?["text"].take()))
        .collect::<serde_json::Result<_>>()?;
    ensure!(texts == ["a", "b"], "{answers}");
    deployment.remove()
}

fn without_services() -> anyhow::Result<()> {
    for (name, domains) in [("one", 1), ("ten", 10)] {
        let deployment = Deployment::example(name, None)?;
        deployment.run(&["up"])?.expect(0)?;
        let status = deployment.run(&["status", "--json"])?.expect(0)?.json()?;
        let found = status["domains"].as_array().context("no domains")?;
        ensure!(found.len() == domains, "{status:#}");
        for domain in found {
            ensure!(domain["state"] == "running", "{domain:#}");
        }
        deployment.remove()?;
    }
    Ok(())
}
