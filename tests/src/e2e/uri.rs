//! A libvirt by its URI: the same deployment where somebody else's libvirtd runs, here another deployment's lab.

use anyhow::ensure;
use pspd_tests::deployment::{Deployment, Ran, pspd};

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[("a libvirt by its URI", by_uri)];

fn by_uri() -> anyhow::Result<()> {
    let host = Deployment::single("")?;
    host.run(&["up"])?.expect(0)?;
    let guest = Deployment::single("")?;
    guest.edit("  store:\n", "  second:\n")?;
    let socket = host.home().join("lab/run/libvirt-sock");
    let uri = format!("qemu:///system?socket={}", socket.display());
    guest.edit(
        "images:",
        &format!("connection: {uri}\nnetwork: {{cidr: 10.78.0.0/24}}\nimages:"),
    )?;
    let inside = |args: &[&str]| -> anyhow::Result<Ran> {
        let program = pspd().display().to_string();
        let (file, state) = (
            guest.file.display().to_string(),
            guest.state().display().to_string(),
        );
        let mut words = vec![
            "lab",
            "exec",
            "--",
            &program,
            "--file",
            &file,
            "--state-dir",
            &state,
        ];
        words.extend(args);
        host.run(&words)
    };
    inside(&["up"])?.expect(0)?;
    let status = inside(&["status", "--json"])?.expect(0)?;
    ensure!(
        status.stdout.contains("\"health\":\"serving\""),
        "{}",
        status.stdout
    );
    inside(&["ssh", "second", "--", "true"])?.expect(0)?;
    inside(&["plan"])?.expect(0)?;
    // Two deployments on one libvirt: each leaves the other's alone.
    host.run(&["plan"])?.expect(0)?;
    inside(&["down", "--volumes"])?.expect(0)?;
    ensure!(!guest.home().exists(), "the deployment's folder is left");
    host.run(&["plan"])?.expect(0)?;
    host.remove()
}
