//! `up` without root: in a lab of the user's own namespaces.

use std::process::Command;

use anyhow::ensure;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{run, sh};
use pspd_tests::scenario::{Scenario, minutes, root};

/// Without root, the other scenarios run as an ordinary user already.
pub(crate) const SCENARIOS: &[Scenario] =
    &[
        Scenario::new("up as an ordinary user", minutes(30), ordinary_user)
            .needs(root)
            .optional(),
    ];

const USER: &str = "pspd-test";

fn ordinary_user() -> anyhow::Result<()> {
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
    let result = story();
    sh("userdel", ["--remove", USER])?;
    result
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
    let user = deployment.ssh("store", "id -un")?;
    ensure!(user == "root", "logged in as `{user}`, expected `root`");
    unit(&deployment)?;
    deployment.remove()
}

/// The user's own units have a folder of their own. No manager of the user runs here.
fn unit(deployment: &Deployment) -> anyhow::Result<()> {
    let configuration = deployment.folder().join("configuration");
    let service = |word: &str| {
        let mut command = deployment.command(["service", word]);
        run(command.env("XDG_CONFIG_HOME", &configuration))
    };
    let name = format!("pspd-{}.service", deployment.name);
    let file = configuration.join("systemd/user").join(name);
    service("status")?.expect(4)?;
    let installed = service("install")?.expect(0)?;
    ensure!(
        installed.stdout.contains("systemctl --user enable") && file.exists(),
        "{}",
        installed.stdout
    );
    let status = service("status")?.expect(4)?;
    ensure!(
        status.stdout.contains("systemd does not answer here"),
        "{}",
        status.stdout
    );
    service("uninstall")?.expect(0)?;
    ensure!(!file.exists(), "the unit is left");
    service("uninstall")?.expect(0).map(drop)
}
