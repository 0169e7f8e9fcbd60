//! The commands beside `up` and `down`, on one running domain.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_model::spec::Digest;
use pspd_tests::deployment::{Deployment, eventually, sh};

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    ("commands on a running domain", commands),
    ("images are listed and pruned", images),
];

const SOON: Duration = Duration::from_secs(30);
/// Longer than a follower's connection may need for a sign of life.
const SILENCE: Duration = Duration::from_secs(32);

fn commands() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.run(&["logs"])?.expect(1)?.says("pspd up")?;
    deployment.run(&["up"])?.expect(0)?;
    deployment
        .run(&["ssh", "store", "--", "exit 7"])?
        .expect(7)?;
    deployment
        .run(&["ssh", "stroe"])?
        .expect(1)?
        .says("store")?;
    lab_shell(&deployment)?;
    logs(&deployment)?;
    renewed(&deployment)?;
    secret(&deployment)?;
    watch(&deployment)?;
    // Its input has ended, and so does it.
    deployment.run(&["console", "store"])?.expect(0)?;
    deployment.run(&["down"])?.expect(0)?;
    let kept = deployment.run(&["logs"])?.expect(0)?;
    ensure!(
        kept.stdout.contains(r#""message":"serving""#),
        "what was logged went with the guest: {}",
        kept.stdout
    );
    deployment.remove()
}

/// A certificate that is renewed comes into use while the service runs: `up` waits until a connection shows it.
fn renewed(deployment: &Deployment) -> anyhow::Result<()> {
    let key = deployment.home().join("keys/services/store.pem");
    let before = (process(deployment)?, fs::read(&key)?);
    fs::remove_file(&key)?;
    deployment.run(&["plan"])?.expect(4)?;
    let ran = deployment.run(&["up"])?.expect(0)?;
    ensure!(
        !ran.stderr.contains("is restarted"),
        "the service did not take its new certificate: {}",
        ran.stderr
    );
    let after = (process(deployment)?, fs::read(&key)?);
    ensure!(after.0 == before.0, "the service was restarted");
    ensure!(after.1 != before.1, "the certificate is the old one");
    deployment.run(&["plan"])?.expect(0).map(drop)
}

fn process(deployment: &Deployment) -> anyhow::Result<String> {
    deployment.ssh("store", "systemctl show -p MainPID --value store")
}

/// A secret is in the service's environment, and in no file or list that another user of the guest may read.
fn secret(deployment: &Deployment) -> anyhow::Result<()> {
    deployment.edit(
        "     health: database.DatabaseService\n",
        "     health: database.DatabaseService\n      secrets: {STORE_TOKEN: generate}\n",
    )?;
    deployment.run(&["up"])?.expect(0)?;
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
        "the service was not told its secret"
    );
    let seen = deployment.ssh(
        "store",
        "runuser -u nobody -- grep -rsl STORE_TOKEN= /opt/pspd /etc/systemd /run/systemd; \
         systemctl show store | grep -c STORE_TOKEN= || :",
    )?;
    ensure!(
        seen == "0",
        "others in the guest can read the secret: {seen}"
    );
    Ok(())
}

/// A shell has the lab's network and speaks to its libvirt.
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
        "the lab's shell says {said:?}"
    );
    Ok(())
}

fn logs(deployment: &Deployment) -> anyhow::Result<()> {
    let seen = deployment.run(&["logs", "store"])?.expect(0)?;
    ensure!(seen.stdout.contains("serving"), "{}", seen.stdout);
    let mut following = deployment.spawn(&["logs", "-f"])?;
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
            following.child.try_wait()?.is_none(),
            "following ended by itself: {}",
            following.stderr()?
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    following.signal("INT")?;
    following.wait().map(drop)
}

fn watch(deployment: &Deployment) -> anyhow::Result<()> {
    let watching = deployment.spawn(&["status", "--watch"])?;
    eventually("the status", SOON, || {
        Ok(watching.stdout()?.contains("healthy"))
    })?;
    watching.signal("INT")?;
    watching.wait().map(drop)
}

/// In a cache of its own: one that nothing is deployed from is pruned.
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
    image(&["build"])?.expect(0)?;
    let listed = image(&["list"])?.expect(0)?.stdout;
    ensure!(listed.contains(sha256.short()), "the list is {listed:?}");
    image(&["prune"])?.expect(0)?;
    let listed = image(&["list", "--json"])?.expect(0)?.stdout;
    ensure!(!listed.contains(sha256.as_str()), "after pruning: {listed}");
    deployment.remove()
}
