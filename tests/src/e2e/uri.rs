//! A libvirt by its URI: the same deployment where somebody else's libvirtd runs, here another deployment's lab.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::ensure;
use pspd_tests::deployment::{Deployment, Ran, processes_naming, pspd};

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[("a libvirt by its URI", by_uri)];

fn by_uri() -> anyhow::Result<()> {
    let host = Deployment::single("")?;
    host.run(&["up"])?.expect(0)?;
    as_distributions_configure_it(&host)?;
    let guest = Deployment::single("")?;
    // As /var/lib is: the hypervisor's user passes.
    fs::set_permissions(guest.folder(), Permissions::from_mode(0o711))?;
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
    let disk = guest.home().join("disks/second.qcow2");
    ensure!(
        fs::metadata(&disk)?.uid() != 0,
        "libvirt did not give the disk to the hypervisor's user"
    );
    moved(&guest)?;
    inside(&["plan"])?.expect(0)?;
    // Two deployments on one libvirt: each leaves the other's alone.
    host.run(&["plan"])?.expect(0)?;
    inside(&["down"])?.expect(0)?;
    let left = processes_naming(&guest.home().display().to_string())?;
    ensure!(left.is_empty(), "processes are left after down: {left:?}");
    inside(&["down", "--volumes"])?.expect(0)?;
    ensure!(!guest.home().exists(), "the deployment's folder is left");
    host.run(&["plan"])?.expect(0)?;
    host.remove()
}

/// QEMU runs as a user of its own, to which libvirtd gives the files that a domain names.
fn as_distributions_configure_it(host: &Deployment) -> anyhow::Result<()> {
    let file = host.home().join("lab/etc/qemu.conf");
    let text = fs::read_to_string(&file)?
        .replace("\"root\"", "\"libvirt-qemu\"")
        .replace("dynamic_ownership = 0", "dynamic_ownership = 1");
    ensure!(text.contains("dynamic_ownership = 1"), "{text}");
    fs::write(&file, text)?;
    host.run(&["lab", "exec", "--", "sh", "-c", "kill -9 $(pidof libvirtd)"])?
        .expect(0)?;
    // It is started again within a second, and asked again until then.
    host.run(&["plan"])?.expect(0).map(drop)
}

/// A topology that names another connection while the deployment is up is refused, and nothing is left behind.
fn moved(guest: &Deployment) -> anyhow::Result<()> {
    let text = fs::read_to_string(&guest.file)?;
    let other = text.lines().filter(|line| !line.starts_with("connection:"));
    let other: Vec<&str> = other.collect();
    fs::write(&guest.file, other.join("\n"))?;
    guest.run(&["up"])?.expect(1)?.says("pspd down")?;
    fs::write(&guest.file, text)?;
    Ok(())
}
