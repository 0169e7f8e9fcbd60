//! The reference deployment from its first `up` to its archive: use, change, failure, `down` and `up`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::output;
use pspd_tests::root;
use pspd_tests::scenario::{Scenario, minutes, say};
use pspd_tests::wait::eventually;
use serde_json::{Value, json};

use super::{archive, clock, published, third_party};

pub(crate) const SCENARIOS: &[Scenario] =
    &[
        Scenario::new("reference deployment", minutes(90), reference)
            .needs(client_and_browser)
            .large(),
    ];

const DOMAINS: [&str; 3] = ["ai-server", "database-server", "web-server"];

fn client_and_browser() -> Result<(), String> {
    third_party::python_client()?;
    let browser = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if Path::new(&browser).exists() {
        return Ok(());
    }
    Err(format!(
        "{browser:?} does not exist; `scripts/setup --test` installs Chromium"
    ))
}

fn reference() -> anyhow::Result<()> {
    let deployment = Deployment::reference()?;
    say("fresh up");
    let fresh = deployment.run(&["up"])?.expect(0)?;
    ensure!(
        fresh.stderr.contains("web-server"),
        "the summary does not name the domains:\n{}",
        fresh.stderr
    );
    eventually_healthy(&deployment)?;

    say("a second up does nothing");
    deployment.run(&["plan"])?.expect(0)?;
    ensure!(planned(&deployment)? == 0, "a second up has steps");

    say("a third-party client");
    third_party::inside(
        &deployment,
        &[
            ("database-server", 50051),
            ("ai-server", 50052),
            ("web-server", 50053),
        ],
    )?;
    say("real documents through the web server");
    let stored = real_documents(&deployment)?;
    say("one request is followed through three machines");
    traced(&deployment, &stored)?;
    say("callers are authorized by name");
    callers(&deployment)?;
    say("the page is published with TLS");
    published::with_tls(&deployment)?;
    say("a real browser");
    browser(&deployment)?;
    say("one changed binary restarts that service alone");
    one_changed_binary(&deployment)?;
    say("a service that hangs is restarted with its release");
    hanging(&deployment)?;
    say("a release that never becomes healthy is rolled back");
    rolled_back(&deployment)?;
    say("memory applies live");
    live_memory(&deployment)?;

    say("down and up with saved memory");
    warm_start(&deployment)?;
    let path = format!("/api/v1/collections/documents/documents/{}", stored.id);
    let read = get(&deployment, &path)?;
    ensure!(read["data"]["label"] == stored.label.as_str(), "{read}");

    say("a snapshot that is restored twice");
    restored_twice(&deployment, &stored)?;

    say("data survives down and up");
    deployment.run(&["down"])?.expect(0)?;
    deployment.run(&["up"])?.expect(0)?;
    eventually_healthy(&deployment)?;
    let read = get(
        &deployment,
        &format!("/api/v1/collections/documents/documents/{}", stored.id),
    )?;
    ensure!(
        read["data"]["label"] == stored.label.as_str(),
        "the stored document differs after down and up: {read}"
    );
    let label = classify(&deployment, &stored.text, false)?;
    ensure!(
        label["label"] == stored.label.as_str(),
        "the model did not survive down and up: {label}"
    );

    say("down leaves nothing; the archive runs in another lab with tar and virsh alone");
    let path = format!("/api/v1/collections/documents/documents/{}", stored.id);
    archive::plain_way(&deployment, &path, &stored.label)
}

/// The ports of the web server's connections to the database.
fn connections(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    let seen = deployment.ssh("web-server", "ss -tnH state established dport = :50051")?;
    let port = |line: &str| {
        let local = line.split_whitespace().nth(2)?;
        Some(local.rsplit_once(':')?.1.to_owned())
    };
    let ports: Vec<String> = seen.lines().filter_map(port).collect();
    ensure!(
        !ports.is_empty(),
        "the web server has no connection to the database: {seen}"
    );
    Ok(ports)
}

/// All machines go back together, twice; what is random differs each time.
fn restored_twice(deployment: &Deployment, stored: &Stored) -> anyhow::Result<()> {
    let before = connections(deployment)?;
    deployment.run(&["snapshot", "save", "twice"])?.expect(0)?;
    let path = |id: &str| format!("/api/v1/collections/documents/documents/{id}");
    let mut drawn = Vec::new();
    for _ in 0..2 {
        let later = classify(deployment, &stored.text, true)?;
        let id = later["id"].as_str().context("no id")?.to_owned();
        get(deployment, &path(&id))?;
        let restore = ["snapshot", "restore", "twice", "--discard"];
        let restored = deployment.run(&restore)?.expect(0)?;
        say(&format!("took {:.1} s", restored.elapsed.as_secs_f64()));
        eventually_healthy(deployment)?;
        let lost = get(deployment, &path(&id));
        ensure!(lost.is_err(), "a document from after the snapshot is there");
        get(deployment, &path(&stored.id))?;
        let after = connections(deployment)?;
        ensure!(
            before.iter().any(|port| after.contains(port)),
            "of the connections from {before:?}, none survived: {after:?}"
        );
        let random = "head -c 16 /dev/urandom | od -An -tx1";
        drawn.push([
            deployment.ssh("web-server", random)?,
            deployment.ssh("database-server", random)?,
            hello(deployment)?,
            id,
        ]);
    }
    let same: Vec<_> = drawn[0]
        .iter()
        .zip(&drawn[1])
        .filter(|(one, other)| one == other)
        .collect();
    ensure!(same.is_empty(), "drawn twice: {same:?}");
    for name in DOMAINS {
        clock::follows(deployment, name)?;
    }
    deployment.run(&["snapshot", "rm", "twice"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}

/// The random bytes with which the database answers a TLS client.
fn hello(deployment: &Deployment) -> anyhow::Result<String> {
    let client = [
        "lab",
        "exec",
        "--",
        "openssl",
        "s_client",
        "-msg",
        "-connect",
        "10.77.0.10:50051",
    ];
    let said = deployment.run(&client)?.stdout;
    let (_, hello) = said
        .split_once("ServerHello\n")
        .with_context(|| said.clone())?;
    // After the type, the length and the version.
    let bytes: Vec<&str> = hello.split_whitespace().skip(6).take(32).collect();
    ensure!(bytes.iter().all(|byte| byte.len() == 2), "{bytes:?}");
    Ok(bytes.concat())
}

/// The machines continue where they stopped, on the connections that they had to each other.
fn warm_start(deployment: &Deployment) -> anyhow::Result<()> {
    let before = connections(deployment)?;
    deployment.run(&["down", "--save"])?.expect(0)?;
    for name in DOMAINS {
        let memory = deployment.home().join(format!("memory/{name}.mem"));
        ensure!(memory.exists(), "the memory of `{name}` is not saved");
    }
    let up = deployment.run(&["up"])?.expect(0)?;
    for name in DOMAINS {
        let line = format!("{name}: restore its memory: done");
        ensure!(up.stderr.contains(&line), "{}", up.stderr);
    }
    ensure!(!up.stderr.contains("push the release"), "{}", up.stderr);
    deployment.run(&["plan"])?.expect(0)?;
    let after = connections(deployment)?;
    ensure!(
        after.contains(&before[0]),
        "the connection from port {} did not survive: {after:?}",
        before[0]
    );
    for name in DOMAINS {
        clock::follows(deployment, name)?;
    }
    eventually_healthy(deployment)
}

fn healthy(deployment: &Deployment) -> anyhow::Result<()> {
    let status = deployment.status()?;
    let domains = status["domains"].as_array().context("status has domains")?;
    let seen: Vec<_> = domains
        .iter()
        .map(|domain| {
            (
                domain["name"].as_str(),
                domain["state"].as_str(),
                domain["service"]["health"].as_str(),
            )
        })
        .collect();
    let expected: Vec<_> = DOMAINS
        .iter()
        .map(|name| (Some(*name), Some("running"), Some("serving")))
        .collect();
    ensure!(seen == expected, "expected {expected:?}, saw {seen:?}");
    Ok(())
}

/// Waits for `healthy`: a service probes its dependencies every second, and one probe in a busy guest may fail.
fn eventually_healthy(deployment: &Deployment) -> anyhow::Result<()> {
    let mut seen = Ok(());
    let waited = eventually(
        "every service to be SERVING",
        Duration::from_secs(60),
        || {
            seen = healthy(deployment);
            Ok(seen.is_ok())
        },
    );
    seen.and(waited)
}

/// How many steps `up` plans, by its events.
fn planned(deployment: &Deployment) -> anyhow::Result<u64> {
    let ran = deployment.run(&["up", "--json"])?.expect(0)?;
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let planned = events
        .iter()
        .find(|event| event["event"] == "planned")
        .context("`up` reports no plan")?;
    planned["steps"]
        .as_u64()
        .context("the plan has no number of steps")
}

struct Stored {
    id: String,
    text: String,
    label: String,
}

/// Trains on a real data set, predicts held-out items, stores them and queries them back.
fn real_documents(deployment: &Deployment) -> anyhow::Result<Stored> {
    let train = fs::read_to_string(root().join("tests/data/train.csv"))?;
    let url = deployment.url("/api/v1/models/default/train");
    let mut answer = deployment
        .agent()
        .post(&url)
        .header("content-type", "text/csv")
        .send(train)?;
    let trained: Value = answer.body_mut().read_json()?;
    ensure!(
        trained["accuracy"]
            .as_f64()
            .is_some_and(|accuracy| accuracy > 0.5),
        "{trained}"
    );

    let held_out = held_out()?;
    let mut right = Vec::new();
    let mut stored = 0;
    for (text, label) in held_out.iter().take(25) {
        let document = classify(deployment, text, true)?;
        stored += 1;
        if document["label"] == label.as_str() {
            let id = document["id"]
                .as_str()
                .context("a stored document has an id")?
                .to_owned();
            right.push(Stored {
                id,
                text: text.clone(),
                label: label.clone(),
            });
        }
    }
    // The AI service's own test has the exact figure for all items; a broken path would show here.
    ensure!(
        right.len() * 10 >= stored * 7,
        "only {} of {stored} held-out documents were classified correctly",
        right.len()
    );
    let first = right
        .into_iter()
        .next()
        .context("no document was classified correctly")?;
    let filter = format!("%7B%22label%22%3A%22{}%22%7D", first.label);
    let found = get(
        deployment,
        &format!("/api/v1/collections/documents/documents?limit=50&query={filter}"),
    )?;
    let documents = found["documents"].as_array().context("documents")?;
    ensure!(
        documents
            .iter()
            .any(|document| document["id"] == first.id.as_str()),
        "the query lacks the stored document: {found}"
    );
    ensure!(
        documents
            .iter()
            .all(|document| document["data"]["label"] == first.label.as_str()),
        "the query found other labels: {found}"
    );
    Ok(first)
}

/// Classifies under a new trace id, and reads its log lines from the three machines in the order of the calls.
fn traced(deployment: &Deployment, document: &Stored) -> anyhow::Result<()> {
    let id = format!("{:032x}", 0xabc_u128 << 96 | u128::from(std::process::id()));
    let body = json!({"text": document.text, "model_id": "default", "collection": "traced", "store": true});
    deployment
        .agent()
        .post(&deployment.url("/api/v1/classify"))
        .header("traceparent", format!("00-{id}-00f067aa0ba902b7-01"))
        .send_json(body)?;
    let seen = deployment.run(&["logs", "--trace", &id])?.expect(0)?;
    let domains: Vec<&str> = seen
        .stdout
        .lines()
        // The date is a line of its own.
        .filter(|line| line.contains(" | "))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    ensure!(
        domains.first() == Some(&"web-server")
            && domains.contains(&"ai-server")
            && domains.contains(&"database-server"),
        "the trace is:\n{}",
        seen.stdout
    );
    say(&seen.stdout);
    Ok(())
}

/// The database refuses the web server the collections that the AI service owns.
fn callers(deployment: &Deployment) -> anyhow::Result<()> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false);
    let agent = ureq::Agent::from(agent.build());
    for collection in ["ai-models", "ai-model-parts", "ai-model-claims"] {
        let path = format!("/api/v1/collections/{collection}/documents");
        let status = agent.get(deployment.url(&path)).call()?.status();
        ensure!(
            status == 403,
            "expected 403 for `{collection}`, which the AI service owns; got {status}"
        );
    }
    Ok(())
}

/// Held-out texts with their labels, in file order.
fn held_out() -> anyhow::Result<Vec<(String, String)>> {
    let script = "import csv,json,sys; print(json.dumps([[r['text'],r['label']] for r in csv.DictReader(open(sys.argv[1],encoding='utf-8',newline=''))]))";
    let text = output(
        Command::new("python3")
            .args(["-c", script])
            .arg(root().join("tests/data/held-out.csv")),
    )?;
    Ok(serde_json::from_str(&text)?)
}

fn classify(deployment: &Deployment, text: &str, store: bool) -> anyhow::Result<Value> {
    let body =
        json!({"text": text, "model_id": "default", "collection": "documents", "store": store});
    let mut answer = deployment
        .agent()
        .post(&deployment.url("/api/v1/classify"))
        .send_json(body)?;
    Ok(answer.body_mut().read_json()?)
}

fn get(deployment: &Deployment, path: &str) -> anyhow::Result<Value> {
    Ok(deployment
        .agent()
        .get(&deployment.url(path))
        .call()?
        .body_mut()
        .read_json()?)
}

fn browser(deployment: &Deployment) -> anyhow::Result<()> {
    let script = root().join("services/web/client/e2e/deployment.mjs");
    let examples = root().join("tests/data/train.csv");
    let said = output(
        Command::new("node")
            .arg(script)
            .arg(deployment.url("/"))
            .arg(examples),
    )?;
    say(&said);
    Ok(())
}

/// The id of a service's process.
fn process(deployment: &Deployment, domain: &str) -> anyhow::Result<String> {
    deployment.ssh(
        domain,
        &format!("systemctl show -p MainPID --value {domain}"),
    )
}

fn processes(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    DOMAINS
        .iter()
        .map(|domain| process(deployment, domain))
        .collect()
}

fn one_changed_binary(deployment: &Deployment) -> anyhow::Result<()> {
    let before = processes(deployment)?;
    // Bytes after the last section of an ELF file change its digest and nothing else.
    OpenOptions::new()
        .append(true)
        .open(deployment.binary("database-server"))?
        .write_all(b"changed")?;
    deployment.run(&["plan"])?.expect(4)?;
    let ran = deployment.run(&["up"])?.expect(0)?;
    say(&format!("took {:.1} s", ran.elapsed.as_secs_f64()));
    let after = processes(deployment)?;
    let restarted: Vec<_> = DOMAINS
        .iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (a, b))| a != b)
        .map(|(name, _)| *name)
        .collect();
    ensure!(restarted == ["database-server"], "restarted: {restarted:?}");
    eventually_healthy(deployment)
}

fn hanging(deployment: &Deployment) -> anyhow::Result<()> {
    let current = "readlink /opt/pspd/database-server/current";
    let before = (
        deployment.ssh("database-server", current)?,
        process(deployment, "database-server")?,
    );
    // It has a previous release, from the step before.
    deployment.ssh("database-server", "systemctl kill -s STOP database-server")?;
    deployment.run(&["up"])?.expect(0)?;
    eventually_healthy(deployment)?;
    let after = (
        deployment.ssh("database-server", current)?,
        process(deployment, "database-server")?,
    );
    ensure!(before.0 == after.0, "another release runs: {after:?}");
    ensure!(before.1 != after.1, "the process was not restarted");
    Ok(())
}

fn rolled_back(deployment: &Deployment) -> anyhow::Result<()> {
    let binary = deployment.binary("ai-server");
    let good = fs::read(&binary)?;
    fs::write(
        &binary,
        "#!/bin/sh\necho deliberately broken\nexec sleep 600\n",
    )?;
    // Shorter than emulated guests have without it.
    let (health, timeout) = ("health: ai.AiService", "\n      start_timeout: 15s");
    let timed = format!("{health}{timeout}");
    deployment.edit(health, &timed)?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("deliberately broken")?;
    eventually_healthy(deployment)?;
    deployment.edit(&timed, health)?;
    fs::write(&binary, good)?;
    deployment.run(&["up"])?.expect(0)?;
    eventually_healthy(deployment)
}

fn live_memory(deployment: &Deployment) -> anyhow::Result<()> {
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = deployment.ssh("ai-server", boot)?;
    deployment.edit(
        "{current: 512 MiB, maximum: 2 GiB}",
        "{current: 768 MiB, maximum: 2 GiB}",
    )?;
    deployment.run(&["up"])?.expect(0)?;
    ensure!(
        deployment.ssh("ai-server", boot)? == before,
        "the guest was restarted for a memory change that applies live"
    );
    // The guest's balloon returns memory after a while.
    eventually(
        "the guest to have its memory",
        Duration::from_secs(60),
        || {
            let info = deployment
                .run(&["lab", "exec", "--", "virsh", "dominfo", "ai-server"])?
                .expect(0)?;
            Ok(info
                .stdout
                .lines()
                .any(|line| line.starts_with("Used memory") && line.contains("786432")))
        },
    )?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}
