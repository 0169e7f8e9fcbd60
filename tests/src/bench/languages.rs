//! The services of examples/polyglot beside those in Rust, in the same virtual machines.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::output;
use pspd_tests::wait::eventually;

use super::say;

const STARTS: usize = 3;
const USERS: &str = "8";

/// A service: what it is written in, its line in the topology, and what it is called with.
struct Service {
    name: &'static str,
    language: &'static str,
    line: &'static str,
    call: &'static str,
    message: &'static str,
}

const DATABASE: Service = Service {
    name: "database-server",
    language: "Node.js",
    line: "command: [node, dist/server.js]",
    call: "database.DatabaseService/Create",
    message: r#"{"collection": "bench", "data": "{\"text\": \"a document of the benchmark\", \"number\": 1}"}"#,
};
const AI: Service = Service {
    name: "ai-server",
    language: "Python",
    line: "command: [python3, main.py]",
    call: "ai.AiService/Predict",
    message: r#"{"input_data": "a late goal in the second half"}"#,
};
const WEB: Service = Service {
    name: "web-server",
    language: "Go",
    line: "binary: web-server/web-server",
    call: "business.BusinessService/Classify",
    message: r#"{"text": "a late goal in the second half"}"#,
};

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::example_with("polyglot", Some(8090), |folder| {
        output(&mut Command::new(folder.join("build"))).map(drop)
    })?;
    deployment.run(&["up"])?.expect(0)?;
    learn(&deployment)?;
    for service in [&DATABASE, &AI] {
        figures(&deployment, service, service.language)?;
    }
    for service in [&DATABASE, &AI] {
        in_rust(&deployment, service)?;
    }
    // Each has documents, and so models, of its own.
    learn(&deployment)?;
    for service in [&DATABASE, &AI] {
        figures(&deployment, service, "Rust")?;
    }
    // Both over the same two services in Rust.
    figures(&deployment, &WEB, WEB.language)?;
    in_rust(&deployment, &WEB)?;
    figures(&deployment, &WEB, "Rust")?;
    deployment.remove()
}

fn in_rust(deployment: &Deployment, service: &Service) -> anyhow::Result<()> {
    deployment.edit(service.line, &format!("binary: services/{}", service.name))?;
    deployment.run(&["up"])?.expect(0)?;
    serving(deployment)
}

fn serving(deployment: &Deployment) -> anyhow::Result<()> {
    eventually("all services", Duration::from_secs(120), || {
        Ok(deployment.status()?["healthy"] == true)
    })
}

/// Teaches the model `default`.
fn learn(deployment: &Deployment) -> anyhow::Result<()> {
    let examples = [
        ("the striker scored a late goal", "sport"),
        ("parliament passed the budget", "politics"),
    ];
    let messages: Vec<String> = (0..40)
        .map(|number| {
            let (text, label) = examples[number % 2];
            format!(r#"{{"input": "{text} {number}", "expected_output": "{label}"}}"#)
        })
        .collect();
    let call = ["call", "ai-server", "TrainModel", &messages.join(" ")];
    deployment.run(&call)?.expect(0).map(drop)
}

fn figures(deployment: &Deployment, service: &Service, language: &str) -> anyhow::Result<()> {
    let name = service.name;
    let mut starts = (0..STARTS)
        .map(|_| start(deployment, name))
        .collect::<anyhow::Result<Vec<f64>>>()?;
    starts.sort_unstable_by(f64::total_cmp);
    serving(deployment)?;
    let data = deployment.folder().join("call.jsonl");
    fs::write(&data, format!("{}\n", service.message))?;
    let data = data.display().to_string();
    let load = [
        "bench",
        "load",
        "--target",
        name,
        "--call",
        service.call,
        "--data",
        &data,
        "--users",
        USERS,
        "--warm-up",
        "5s",
        "--for",
        "15s",
        "--json",
    ];
    let measured = deployment.run(&load)?.expect(0)?.json()?;
    let throughput = measured["throughput"].as_f64().context("no throughput")?;
    let failed = measured["failed"].as_u64().context("no failures")?;
    let percentiles = measured["latency"]["percentiles"].as_array();
    let of = |percentile: f64| {
        let mut all = percentiles?.iter();
        all.find(|one| one["percentile"] == percentile)?["ms"].as_f64()
    };
    let memory = deployment.ssh(
        name,
        &format!("ps -o rss= -p \"$(systemctl show -p MainPID --value {name})\""),
    )?;
    let memory: f64 = memory.trim().parse().context("no memory")?;
    say(&format!(
        "{name} in {language}: SERVING after {:.1} s (median of {starts:.1?}), {throughput:.0} calls/s by {USERS} users \
         (p50 {:.1} ms, p99 {:.1} ms, {failed} failed), {:.0} MiB resident after that",
        starts[STARTS / 2],
        of(50.0).context("no p50")?,
        of(99.0).context("no p99")?,
        memory / 1024.0
    ));
    Ok(())
}

/// Restarts a service alone and returns the seconds until it is SERVING, by its own report.
fn start(deployment: &Deployment, name: &str) -> anyhow::Result<f64> {
    // A service that is stopped is started by `up`, which waits for it.
    deployment.ssh(name, &format!("systemctl stop {name}"))?;
    let up = deployment.run(&["up"])?.expect(0)?;
    let wanted = format!("{name}: wait until SERVING: done in ");
    let line = up.stderr.lines().find_map(|line| line.split_once(&wanted));
    let (_, took) = line.with_context(|| format!("`up` did not start `{name}`:\n{}", up.stderr))?;
    let took = took.trim_end_matches(" s").trim();
    took.parse().with_context(|| format!("`{took}`"))
}
