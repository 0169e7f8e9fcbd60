//! `pspd bench protocol`: the same operations over every protocol, on loopback and between two guests.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::processes_naming;
use pspd_tests::scenario::{Scenario, minutes};
use pspd_tests::wait::eventually;
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("protocols are compared", minutes(20), protocols).large()];

/// Six protocols and five operations, without the bidirectional streams of REST and SOAP.
const CASES: usize = 6 * 5 - 3;
/// Where it is written to for a run, of all its processes.
const PROGRAM: &str = "/protocol-bench";
const KIB_64: f64 = 65_536.0;
const SOON: Duration = Duration::from_secs(30);

fn protocols() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let bench = ["bench", "protocol", "--rounds", "1"];
    let bench = [&bench[..], &["--for", "1s", "--out", "results"]].concat();

    let loopback = [&bench[..], &["--loopback", "--callers", "3,3", "--json"]].concat();
    let results = deployment.run(&loopback)?.expect(0)?.json()?;
    check(&results, 3)?;
    let file = fs::read(deployment.folder().join("results/protocol.json"))?;
    ensure!(serde_json::from_slice::<Value>(&file)? == results, "JSON");
    let page = fs::read_to_string(deployment.folder().join("results/protocol.html"))?;
    ensure!(page.contains("<h1>Protocols compared</h1>"), "{page}");

    for signal in ["INT", "KILL"] {
        let ended = deployment.spawn(&loopback)?;
        eventually("the first case", SOON, || {
            Ok(ended.stderr()?.contains("small unary"))
        })?;
        ended.signal(signal)?;
        let ended = ended.wait()?;
        if signal == "INT" {
            ended.expect(130)?.says("interrupted")?;
        }
        no_process_of(PROGRAM)?;
    }

    let guests = [&bench[..], &["--callers", "1", "--json"]].concat();
    let results = deployment.run(&guests)?.expect(0)?.json()?;
    ensure!(results["between"] == "Between two guests", "{results:#}");
    check(&results, 1)?;
    no_process_of("bench-protocol")
}

/// What holds on a machine of any speed.
fn check(results: &Value, callers: u64) -> anyhow::Result<()> {
    let cases = results["cases"].as_array().context("no cases")?;
    ensure!(cases.len() == CASES, "{results:#}");
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap_or(f64::NAN);
        let positive = ["calls", "p50_ms", "sent_bytes", "received_bytes"].iter();
        let positive = positive.chain(&["caller_cpu_seconds", "server_cpu_seconds"]);
        for key in positive {
            ensure!(number(key) > 0.0, "{key}: {case:#}");
        }
        ensure!(number("p50_ms") <= number("p99_ms"), "{case:#}");
        ensure!(case["callers"] == callers, "{case:#}");
        ensure!(number("calls") >= number("callers"), "{case:#}");
        if case["operation"] == "unary-large" {
            let binary = ["grpc", "websocket-protobuf"];
            let binary = binary.iter().any(|&name| case["protocol"] == name);
            // JSON and XML have bytes as base64.
            let least = if binary { KIB_64 } else { KIB_64 * 4.0 / 3.0 };
            ensure!(number("sent_bytes") > least, "{case:#}");
            ensure!(number("received_bytes") > least, "{case:#}");
        }
    }
    Ok(())
}

fn no_process_of(text: &str) -> anyhow::Result<()> {
    eventually("the end of all processes", SOON, || {
        Ok(processes_naming(text)?.is_empty())
    })
}
