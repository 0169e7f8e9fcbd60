//! A client that shares no code with the services checks their whole contracts: on loopback, and in guests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use pspd_tests::deployment::Deployment;
use pspd_tests::loopback::{Server, free_port};
use pspd_tests::process::output;
use pspd_tests::root;
use pspd_tests::scenario::{Scenario, minutes, say};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("third-party client on loopback", minutes(20), on_loopback).needs(python_client),
    Scenario::new(
        "third-party client with services in trouble",
        minutes(20),
        in_trouble,
    )
    .needs(python_client),
    Scenario::new(
        "the JSON API does what its OpenAPI document says",
        minutes(5),
        as_documented,
    )
    .needs(python_client),
];

/// `tests/run` installs the client's packages.
pub(crate) fn python_client() -> Result<(), String> {
    let python = python();
    if Path::new(&python).exists() {
        return Ok(());
    }
    Err(format!("`{python}` does not exist; `tests/run` creates it"))
}

fn on_loopback() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
    let services = Server::reference(folder.path())?;
    let mut command = Command::new(python());
    command.args(arguments(folder.path(), "-")?);
    for Server { name, port, .. } in &services {
        command.arg(format!("{name}=127.0.0.1:{port}"));
    }
    say(&output(&mut command)?);
    Ok(())
}

/// Schemathesis sends what the document allows, which must be accepted, and what it does not allow, which must be refused.
fn as_documented() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
    let http = free_port()?;
    let _services = Server::reference_at(folder.path(), http)?;
    let tests = root().join("tests/third_party");
    let mut command = Command::new(root().join("target/third-party/bin/schemathesis"));
    command
        .current_dir(folder.path())
        .env("PYTHONPATH", &tests)
        .arg("--config-file")
        .arg(tests.join("schemathesis.toml"))
        .arg("run")
        .arg(format!("http://127.0.0.1:{http}/api/v1/openapi.json"));
    say(&output(&mut command)?);
    Ok(())
}

/// Errors that depend on a service's state or on the caller: the client starts its services itself.
fn in_trouble() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
    let mut command = Command::new(python());
    command
        .arg(root().join("tests/third_party/faults.py"))
        .arg(stubs(folder.path())?)
        .arg(root().join("target/services"));
    say(&output(&mut command)?);
    Ok(())
}

/// Runs the client inside a deployment's network, against these domains' services.
pub(crate) fn inside(deployment: &Deployment, services: &[(&str, u16)]) -> anyhow::Result<()> {
    let folder = deployment.folder().join("credentials");
    let credentials = folder.display().to_string();
    deployment.run(&["credentials", &credentials])?.expect(0)?;
    let status = deployment.status()?;
    let domains = status["domains"]
        .as_array()
        .context("`status` lists no domains")?;
    let mut arguments = arguments(deployment.folder(), &credentials)?;
    for (name, port) in services {
        let found = domains.iter().find(|entry| entry["name"] == *name);
        let address = found.and_then(|entry| entry["address"].as_str());
        let address = address.with_context(|| format!("`status` has no address for `{name}`"))?;
        arguments.push(format!("{name}={address}:{port}"));
    }
    let python = python();
    let command = ["lab", "exec", "--", &python];
    let arguments = arguments.iter().map(String::as_str);
    let ran = deployment.run(&command.into_iter().chain(arguments).collect::<Vec<_>>())?;
    say(&ran.stdout);
    ran.expect(0).map(drop)
}

fn python() -> String {
    let path = root().join("target/third-party/bin/python");
    path.display().to_string()
}

/// Generates the client's stubs in `folder`, and returns their path.
fn stubs(folder: &Path) -> anyhow::Result<String> {
    let stubs = folder.join("stubs");
    fs::create_dir_all(&stubs)?;
    let (protos, out) = (root().join("proto"), stubs.display().to_string());
    let services = ["database_service", "ai_service", "business_service"];
    output(
        Command::new(python())
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(&protos)
            .args([
                format!("--python_out={out}"),
                format!("--grpc_python_out={out}"),
            ])
            .args(services.map(|name| protos.join(format!("{name}.proto")))),
    )?;
    Ok(out)
}

/// The arguments before the services' addresses; generates the stubs in `folder`.
fn arguments(folder: &Path, credentials: &str) -> anyhow::Result<Vec<String>> {
    let text = |path: &str| root().join(path).display().to_string();
    Ok(vec![
        text("tests/third_party/client.py"),
        stubs(folder)?,
        text("tests/data/train.csv"),
        credentials.to_owned(),
    ])
}
