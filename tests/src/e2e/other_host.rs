//! A deployment on another machine, which is reached by SSH.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::machine::Machine;
use pspd_tests::process::{output, processes_naming};
use pspd_tests::scenario::{Scenario, minutes, root, say};
use pspd_tests::wait::eventually;

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("a deployment on another machine", minutes(30), other_host).needs(root)];

fn other_host() -> anyhow::Result<()> {
    // Before the deployment, which is removed through it.
    let machine = Machine::start()?;
    let deployment = Deployment::single("")?;
    let name = format!("name: {}\n", deployment.name);
    let hosts = format!("hosts: {{beyond: {}}}\n", machine.keys());
    deployment.edit(&name, &format!("{name}{hosts}"))?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("the key of host `beyond` is not known")?;
    machine.trust_another()?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("another key than the one that is known")?;
    machine.trust()?;

    deployment
        .run(&["down"])?
        .expect(0)?
        .says("nothing to do")?;
    deployment
        .run(&["status"])?
        .expect(1)?
        .says("does not exist on this host")?;

    say("an interrupted `up` is undone there");
    let there = machine.state().join("deployments").join(&deployment.name);
    let up = deployment.spawn(&["up"])?;
    eventually("the domain's disk", Duration::from_secs(300), || {
        Ok(there.join("disks/store.qcow2").exists())
    })?;
    up.signal("INT")?;
    up.wait()?.expect(130)?;
    ensure!(!there.join("disks/store.qcow2").exists(), "a disk is left");

    say("it is brought up, used and changed from here");
    deployment.run(&["up"])?.expect(0)?;
    let again = deployment.run(&["up"])?.expect(0)?;
    ensure!(!again.stderr.contains("copy"), "{}", again.stderr);
    let status = deployment.status()?;
    let health = &status["domains"][0]["service"]["health"];
    ensure!(health == "serving", "{status}");
    deployment.run(&["plan"])?.expect(0)?;
    ensure!(
        deployment.ssh("store", "hostname")? == "store",
        "another host name"
    );
    deployment
        .run(&["ssh", "store", "--", "exit 7"])?
        .expect(7)?;
    let size = fs::metadata(&deployment.file)?.len().to_string();
    let left = left_of_input(&deployment, &["ssh", "store", "--", "true"])?;
    ensure!(left == size, "the input of a script was read: {left}");
    let left = left_of_input(&deployment, &["ssh", "-i", "store", "--", "cat >/dev/null"])?;
    ensure!(left == "0", "the input was not read: {left}");
    TcpStream::connect(("127.0.0.1", deployment.port)).context("the published port")?;
    let listed = deployment.run(&["ls"])?.expect(0)?;
    ensure!(listed.stdout.contains("on beyond"), "{}", listed.stdout);
    deployment
        .run(&["cp", "store:/etc/hostname", "."])?
        .expect(1)?
        .says("is on host `beyond`")?;
    deployment.edit("{DATABASE_STORE:", "{OTHER: value, DATABASE_STORE:")?;
    deployment.run(&["plan"])?.expect(4)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;

    say("it is on one machine at a time");
    deployment.run(&["down"])?.expect(0)?;
    deployment.edit(&hosts, "")?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("`store` is on host `beyond`, and the topology says this machine")?;
    deployment.remove()?;
    let left = processes_naming(&format!("/var/lib/pspd/deployments/{}", deployment.name))?;
    ensure!(left.is_empty(), "processes are left there: {left:?}");
    for left in [
        there.clone(),
        machine.state().join("sent").join(&deployment.name),
    ] {
        ensure!(!left.exists(), "`{}` is left", left.display());
    }
    Ok(())
}

/// Runs a command with the topology's text as its input, and returns how many bytes of it are left for the caller.
fn left_of_input(deployment: &Deployment, words: &[&str]) -> anyhow::Result<String> {
    let command = deployment.command(words);
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", r#"exec <"$0"; "$@"; wc -c"#])
        .arg(&deployment.file)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(deployment.folder());
    Ok(output(&mut shell)?.trim().to_owned())
}
