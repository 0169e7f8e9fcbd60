//! A deployment on a libvirtd that pspd did not start, given by its URI: here the one of another deployment's lab.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::ensure;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{Ran, processes_naming};
use pspd_tests::pspd;
use pspd_tests::scenario::{Scenario, minutes, root};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new("libvirt by URI", minutes(40), by_uri)
    .needs(root)
    .large()];

fn by_uri() -> anyhow::Result<()> {
    let host = Deployment::single("")?;
    host.run(&["up"])?.expect(0)?;
    as_distributions_configure_it(&host)?;
    let guest = Deployment::single("")?;
    // Like /var/lib: the hypervisor's user can pass through it.
    fs::set_permissions(guest.folder(), Permissions::from_mode(0o711))?;
    guest.edit("  store:\n", "  second:\n")?;
    let socket = host.home().join("lab/run/libvirt-sock");
    let uri = format!("qemu:///system?socket={}", socket.display());
    guest.edit(
        "images:",
        &format!("connection: {uri}\nautostart: true\nnetwork: {{cidr: 10.78.0.0/24}}\nimages:"),
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
    let status = inside(&["status", "--json"])?.expect(0)?.json()?;
    ensure!(
        status["domains"][0]["service"]["health"] == "serving",
        "{status}"
    );
    inside(&["ssh", "second", "--", "true"])?.expect(0)?;
    starts_with_the_host(&host, &guest, "enable")?;
    guest.edit("autostart: true\n", "")?;
    inside(&["up"])?.expect(0)?;
    starts_with_the_host(&host, &guest, "disable")?;
    let disk = guest.home().join("disks/second.qcow2");
    ensure!(
        fs::metadata(&disk)?.uid() != 0,
        "libvirt did not change the disk's owner to the hypervisor's user"
    );
    moved(&guest)?;
    inside(&["plan"])?.expect(0)?;
    // Two deployments on one libvirt do not touch each other.
    host.run(&["plan"])?.expect(0)?;
    inside(&["down"])?.expect(0)?;
    let left = processes_naming(&guest.home().display().to_string())?;
    ensure!(left.is_empty(), "processes are left after down: {left:?}");
    inside(&["down", "--volumes"])?.expect(0)?;
    ensure!(!guest.home().exists(), "the deployment's folder is left");
    host.run(&["plan"])?.expect(0)?;
    host.remove()
}

/// Compares what libvirt says of a deployment's network and domain.
fn starts_with_the_host(host: &Deployment, guest: &Deployment, word: &str) -> anyhow::Result<()> {
    let show = format!("virsh dominfo second; virsh net-info {}", guest.name);
    let said = host
        .run(&["lab", "exec", "--", "sh", "-c", &show])?
        .expect(0)?;
    let words: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("Autostart:"))
        .map(str::trim)
        .collect();
    let network = if word == "enable" { "yes" } else { "no" };
    ensure!(words == [word, network], "{}", said.stdout);
    Ok(())
}

/// QEMU runs as a separate user, and libvirtd changes the owner of a domain's files to it.
fn as_distributions_configure_it(host: &Deployment) -> anyhow::Result<()> {
    let file = host.home().join("lab/etc/qemu.conf");
    let text = fs::read_to_string(&file)?
        .replace("\"root\"", "\"libvirt-qemu\"")
        .replace("dynamic_ownership = 0", "dynamic_ownership = 1");
    ensure!(text.contains("dynamic_ownership = 1"), "{text}");
    fs::write(&file, text)?;
    host.run(&["lab", "exec", "--", "sh", "-c", "kill -9 $(pidof libvirtd)"])?
        .expect(0)?;
    // The lab restarts libvirtd within a second; `plan` retries until then.
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
