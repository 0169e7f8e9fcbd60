//! A user without root: the same `up` in a lab of the user's own namespaces.

use std::process::Command;

use anyhow::ensure;
use pspd_tests::deployment::{Deployment, output, sh};

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[("up as an ordinary user", ordinary_user)];

const USER: &str = "pspd-test";

fn ordinary_user() -> anyhow::Result<()> {
    let root = output(Command::new("id").arg("-u"))?.trim() == "0";
    if !root {
        // Every other scenario has run as an ordinary user then.
        super::say("          skipped: these tests run as an ordinary user already");
        return Ok(());
    }
    let known = Command::new("id").arg(USER).output()?.status.success();
    if !known {
        sh("useradd", ["--create-home", "--shell", "/bin/sh", USER])?;
        sh(
            "usermod",
            [
                "--add-subuids",
                "300000-365535",
                "--add-subgids",
                "300000-365535",
                USER,
            ],
        )?;
    }
    let told = story();
    sh("userdel", ["--remove", USER])?;
    told
}

fn story() -> anyhow::Result<()> {
    let mut deployment = Deployment::single("")?;
    deployment.run_as(USER)?;
    deployment.run(&["up"])?.expect(0)?;
    let status = deployment.status()?;
    ensure!(
        status["domains"][0]["service"]["health"] == "serving",
        "{status}"
    );
    ensure!(deployment.ssh("store", "id -un")? == "root", "SSH works");
    deployment.remove()
}
