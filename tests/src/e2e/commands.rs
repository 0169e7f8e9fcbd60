//! The commands other than `up` and `down`, on one domain.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_model::spec::Digest;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{output, sh};
use pspd_tests::scenario::{Scenario, minutes};
use pspd_tests::wait::eventually;
use serde_json::Value;

use super::daily;
use super::reading::{changes_nothing, first_up};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("commands on a domain", minutes(30), commands),
    Scenario::new("images are listed and pruned", minutes(30), images),
];

const SOON: Duration = Duration::from_secs(30);
/// Of an emulated guest, to its service.
const REBOOT: Duration = Duration::from_secs(180);
/// Longer than the keepalive interval of a followed log.
const SILENCE: Duration = Duration::from_secs(32);

fn commands() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.edit(
        "     health: database.DatabaseService\n",
        "     health: database.DatabaseService\n      secrets: {STORE_TOKEN: generate}\n",
    )?;
    deployment.run(&["logs"])?.expect(1)?.says("pspd up")?;
    changes_nothing(&deployment).context("on a fresh host")?;
    first_up(&deployment)?;
    changes_nothing(&deployment).context("on a running deployment")?;
    deployment
        .run(&["ssh", "store", "--", "exit 7"])?
        .expect(7)?;
    deployment
        .run(&["ssh", "stroe"])?
        .expect(1)?
        .says("store")?;
    daily::listed(&deployment, "running")?;
    daily::watched(&deployment)?;
    daily::copied(&deployment)?;
    daily::called(&deployment)?;
    lab_shell(&deployment)?;
    captured(&deployment)?;
    decrypted(&deployment)?;
    load(&deployment)?;
    logs(&deployment)?;
    daily::filtered(&deployment)?;
    renewed(&deployment)?;
    rebooted(&deployment)?;
    secret(&deployment)?;
    watch(&deployment)?;
    starts_with_the_host(&deployment)?;
    // It ends with its input.
    deployment.run(&["console", "store"])?.expect(0)?;
    deployment.run(&["down"])?.expect(0)?;
    daily::listed(&deployment, "down")?;
    changes_nothing(&deployment).context("after `down`")?;
    let kept = deployment.run(&["logs", "--raw"])?.expect(0)?;
    ensure!(
        kept.stdout.contains(r#""message":"serving""#),
        "`down` lost the log: {}",
        kept.stdout
    );
    deployment.remove()
}

/// The service picks up a renewed certificate while it runs: `up` waits until a connection presents it.
fn renewed(deployment: &Deployment) -> anyhow::Result<()> {
    let key = deployment.home().join("keys/services/store.pem");
    let before = (process(deployment)?, fs::read(&key)?);
    fs::remove_file(&key)?;
    deployment.run(&["plan"])?.expect(4)?;
    let ran = deployment.run(&["up"])?.expect(0)?;
    ensure!(
        !ran.stderr.contains("restarting it"),
        "the service did not pick up its new certificate: {}",
        ran.stderr
    );
    let after = (process(deployment)?, fs::read(&key)?);
    ensure!(after.0 == before.0, "the service was restarted");
    ensure!(after.1 != before.1, "the certificate was not renewed");
    deployment.run(&["plan"])?.expect(0).map(drop)
}

fn process(deployment: &Deployment) -> anyhow::Result<String> {
    deployment.ssh("store", "systemctl show -p MainPID --value store")
}

/// A secret is in the service's environment, and in no file or list that another user of the guest can read.
fn secret(deployment: &Deployment) -> anyhow::Result<()> {
    let folder = deployment.folder().join("credentials");
    deployment
        .run(&["credentials", &folder.display().to_string()])?
        .expect(0)?;
    let token = fs::read_to_string(folder.join("store.STORE_TOKEN"))?;
    let process = process(deployment)?;
    let environment =
        deployment.ssh("store", &format!("tr '\\0' '\\n' </proc/{process}/environ"))?;
    ensure!(
        environment.contains(&format!("STORE_TOKEN={token}")),
        "the secret is not in the service's environment"
    );
    let seen = deployment.ssh(
        "store",
        "runuser -u nobody -- grep -rsl STORE_TOKEN= /opt/pspd /etc/systemd /run/systemd; \
         systemctl show store | grep -c STORE_TOKEN= || :",
    )?;
    ensure!(
        seen == "0",
        "other users of the guest can read the secret: {seen}"
    );
    Ok(())
}

/// A shell is in the lab's network and reaches its libvirt.
fn lab_shell(deployment: &Deployment) -> anyhow::Result<()> {
    let mut shell = deployment
        .command(["lab", "shell"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = shell.stdin.take().context("a stdin")?;
    input.write_all(b"ip -o -4 address show; virsh list --name\n")?;
    drop(input);
    let said = String::from_utf8(shell.wait_with_output()?.stdout)?;
    ensure!(
        said.contains("10.77.0.1/24") && said.contains("store"),
        "unexpected output of the lab's shell: {said:?}"
    );
    Ok(())
}

/// Packets of health checks are in the file, with the guest's name.
fn captured(deployment: &Deployment) -> anyhow::Result<()> {
    let file = deployment.folder().join("store.pcapng");
    let shown = file.display().to_string();
    let capture = |filter| ["capture", "store", "--filter", filter, "-o", &shown];
    let refused = deployment.run(&capture("no such filter"))?.expect(1)?;
    refused.says("failed to capture: `no such filter` is not valid for pcap-filter(7)")?;
    ensure!(!file.exists(), "a file without a capture is left");
    let capturing = deployment.spawn(&capture("tcp port 50051"))?;
    let packets = || output(Command::new("tcpdump").args(["-n", "-r", &shown]));
    eventually("packets", SOON, || {
        deployment.status()?;
        Ok(packets().is_ok_and(|packets| packets.contains(".50051 > ")))
    })?;
    capturing.signal("INT")?;
    let captured = capturing.wait()?.expect(0)?;
    captured.says(&format!("packets in `{shown}`"))?;
    let names = fs::read(&file)?;
    ensure!(
        names.windows(5).any(|part| part == b"store"),
        "the file does not name the guest"
    );
    deployment
        .run(&capture("tcp"))?
        .expect(1)?
        .says("Pass `--force` to overwrite it")?;
    Ok(())
}

/// With the service's keys, gRPC can be read; only after the topology asks for that.
fn decrypted(deployment: &Deployment) -> anyhow::Result<()> {
    let file = deployment.folder().join("decrypted.pcapng");
    let shown = file.display().to_string();
    let capture = ["capture", "store", "--keys", "-o", &shown];
    deployment
        .run(&capture)?
        .expect(1)?
        .says("`store` does not log its TLS keys. Set `tls_key_log: true` in its `service`")?;
    ensure!(!file.exists(), "a file without a capture is left");
    let health = "     health: database.DatabaseService\n";
    let with_keys = format!("{health}      tls_key_log: true\n");
    deployment.edit(health, &with_keys)?;
    deployment.run(&["up"])?.expect(0)?;
    let mode = deployment.ssh("store", "stat -c '%U %a' /run/pspd-store/tls-keys.log")?;
    ensure!(mode == "store 600", "the key log is `{mode}`");
    let capturing = deployment.spawn(&capture)?;
    eventually("the start of the capture", SOON, || {
        Ok(capturing.stderr()?.contains("capturing on"))
    })?;
    deployment.run(&["status"])?.expect(0)?;
    capturing.signal("INT")?;
    capturing.wait()?.expect(0)?;
    let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the file with keys has mode {mode:o}");
    let calls = output(Command::new("tshark").args([
        "-r",
        &shown,
        "-Y",
        "http2",
        "-T",
        "fields",
        "-e",
        "http2.headers.path",
    ]))?;
    ensure!(
        calls.contains("/grpc.health.v1.Health/Check"),
        "no call can be read: {calls:?}"
    );
    deployment.edit(&with_keys, health)?;
    deployment.run(&["up"])?.expect(0)?;
    let left = deployment.ssh("store", "ls -d /run/pspd-store 2>/dev/null || :")?;
    ensure!(left.is_empty(), "the key log is left");
    Ok(())
}

/// `status` says that a guest rebooted without pspd.
fn rebooted(deployment: &Deployment) -> anyhow::Result<()> {
    let reboots = || -> anyhow::Result<Value> {
        Ok(deployment.status()?["domains"][0]["boot"]["reboots"].clone())
    };
    let before = reboots()?;
    ensure!(before == 0, "{before} reboots before one");
    // The guest ends the session.
    deployment.run(&["ssh", "store", "--", "reboot -f"])?;
    eventually("the reboot", REBOOT, || Ok(reboots()? == 1))?;
    eventually("the service after the reboot", REBOOT, || {
        Ok(deployment.status()?["healthy"] == true)
    })?;
    let status = deployment.run(&["status", "--boot"])?.expect(0)?;
    ensure!(
        status
            .stdout
            .contains("store: it rebooted once since this boot"),
        "{}",
        status.stdout
    );
    Ok(())
}

/// Documents are stored at a rate, each with a number of its own, and every call is in the figures.
fn load(deployment: &Deployment) -> anyhow::Result<()> {
    let file = deployment.folder().join("documents.jsonl");
    let (data, out) = (file.display().to_string(), deployment.folder().join("load"));
    let folder = out.display().to_string();
    let load = |more: &[&str]| {
        let common = [
            "bench", "load", "--target", "store", "--call", "Create", "--data", &data,
        ];
        deployment.run(&[&common, more].concat())
    };
    fs::write(&file, r#"{"colection": "load"}"#)?;
    load(&[])?
        .expect(1)?
        .says("line 1: not a message of type `database.CreateRequest`")?;
    fs::write(&file, r#"{"collection": "load", "data": "no JSON"}"#)?;
    load(&[])?
        .expect(1)?
        .says("the service rejects the first call with INVALID_ARGUMENT")?;

    fs::write(
        &file,
        r#"{"collection": "load", "data": "{\"number\": {{n}}, \"key\": \"{{uuid}}\"}"}"#,
    )?;
    let short = [
        "--rate",
        "20/s",
        "--for",
        "5s",
        "--warm-up",
        "1s",
        "--json",
        "--out",
        &folder,
    ];
    let results = load(&short)?.expect(0)?.json()?;
    let number = |value: &Value| value.as_u64().context("no number");
    let calls = number(&results["calls"])?;
    ensure!(
        calls > 0 && results["succeeded"] == calls && results["failed"] == 0,
        "{results}"
    );
    let unsent = number(&results["sender"]["unsent"])?;
    ensure!(calls + unsent == 100, "{results}");
    let figures = results["latency"]["percentiles"].as_array();
    let times: Option<Vec<f64>> =
        figures.and_then(|all| all.iter().map(|one| one["ms"].as_f64()).collect());
    let times = times.context("percentiles without times")?;
    ensure!(
        times.len() == 6 && times[0] > 0.0 && times.is_sorted(),
        "{results}"
    );
    let page = fs::read_to_string(out.join("load.html"))?;
    ensure!(page.contains(&format!("{calls} succeeded")), "{page}");
    let written: Value = serde_json::from_slice(&fs::read(out.join("load.json"))?)?;
    ensure!(written == results, "load.json differs from stdout");

    deployment.ssh("store", "systemctl stop store")?;
    load(&[])?
        .expect(1)?
        .says("failed to connect to 10.77.0.")?;
    deployment.ssh("store", "systemctl start store").map(drop)
}

fn logs(deployment: &Deployment) -> anyhow::Result<()> {
    let seen = deployment.run(&["logs", "store", "--raw"])?.expect(0)?;
    ensure!(seen.stdout.contains("serving"), "{}", seen.stdout);
    let mut following = deployment.spawn(&["logs", "-f", "--raw"])?;
    let serving = |text: String| text.matches(r#""message":"serving""#).count();
    eventually("the log so far", SOON, || {
        Ok(serving(following.stdout()?) > 0)
    })?;
    let before = serving(following.stdout()?);
    deployment.ssh("store", "systemctl restart store")?;
    eventually("the restart in the log", SOON, || {
        Ok(serving(following.stdout()?) > before)
    })?;
    let silent = Instant::now();
    while silent.elapsed() < SILENCE {
        ensure!(
            following.is_running()?,
            "`logs -f` ended: {}",
            following.stderr()?
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    following.signal("INT")?;
    following.wait().map(drop)
}

/// What the unit does when the host stops and starts: the guest continues.
fn starts_with_the_host(deployment: &Deployment) -> anyhow::Result<()> {
    let before = process(deployment)?;
    let unit = deployment
        .run(&["service", "install", "--print"])?
        .expect(0)?;
    for key in ["ExecStop=", "ExecStart=-"] {
        let mut lines = unit.stdout.lines();
        let command = lines.find_map(|line| line.strip_prefix(key));
        let command = command.with_context(|| format!("no `{key}` in {}", unit.stdout))?;
        sh("sh", ["-c", command])?;
    }
    ensure!(process(deployment)? == before, "the guest was not saved");
    deployment.run(&["status"])?.expect(0).map(drop)
}

fn watch(deployment: &Deployment) -> anyhow::Result<()> {
    let watching = deployment.spawn(&["status", "--watch"])?;
    eventually("the status", SOON, || {
        Ok(watching.stdout()?.contains("healthy"))
    })?;
    watching.signal("INT")?;
    watching.wait().map(drop)
}

/// In a separate cache: an image that no deployment uses is pruned.
fn images() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let (disk, cache) = (
        deployment.folder().join("disk.qcow2"),
        deployment.folder().join("cache"),
    );
    let (shown, cache) = (disk.display().to_string(), cache.display().to_string());
    sh("qemu-img", ["create", "-q", "-f", "qcow2", &shown, "1M"])?;
    let sha256 = Digest::of(&fs::read(&disk)?);
    deployment.set_image(&format!(
        "{{path: {shown}, sha256: {sha256}, seed: credentials}}"
    ))?;
    let image =
        |words: &[&str]| deployment.run(&[&["--cache-dir", &cache, "image"], words].concat());
    let digests = || -> anyhow::Result<Vec<Value>> {
        let listed = image(&["list", "--json"])?.expect(0)?.json()?;
        let images = listed.as_array().context("the list is not an array")?;
        Ok(images.iter().map(|image| image["digest"].clone()).collect())
    };
    image(&["build"])?.expect(0)?;
    let listed = digests()?;
    ensure!(listed == [sha256.as_str()], "the list is {listed:?}");
    let text = image(&["list"])?.expect(0)?.stdout;
    let first = text.split_whitespace().next();
    ensure!(first == Some(sha256.short()), "the list is {text:?}");
    image(&["prune"])?.expect(0)?;
    let left = digests()?;
    ensure!(left.is_empty(), "after pruning: {left:?}");
    deployment.remove()
}
