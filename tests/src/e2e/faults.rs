//! Bad input and faults: each ends in a clear error and a state from which `up` recovers and which `down` removes.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use pspd_model::spec::Digest;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{processes_naming, sh};
use pspd_tests::scenario::{Scenario, minutes, root};
use pspd_tests::wait::eventually;
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "an image with a wrong digest is refused",
        minutes(30),
        wrong_digest,
    ),
    Scenario::new(
        "a file that is too large is refused",
        minutes(20),
        too_large,
    ),
    Scenario::new("a full disk", minutes(30), full_disk).needs(root),
    Scenario::new(
        "a domain named like a unit or a user of the guest is refused",
        minutes(30),
        name_of_the_guests,
    ),
    Scenario::new(
        "a guest that never reaches SSH",
        minutes(30),
        never_reaches_ssh,
    ),
    Scenario::new(
        "faults of a running deployment",
        minutes(40),
        running_deployment,
    ),
];

/// A disk with nothing on it.
fn empty_image(deployment: &Deployment) -> anyhow::Result<String> {
    let path = deployment.folder().join("empty.qcow2");
    let path = path.display().to_string();
    sh("qemu-img", ["create", "-q", "-f", "qcow2", &path, "64M"])?;
    Ok(path)
}

fn wrong_digest() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let image = empty_image(&deployment)?;
    deployment.set_image(&format!("{{path: {image}, sha256: {}}}", "0".repeat(64)))?;
    deployment.run(&["up"])?.expect(1)?.says(&"0".repeat(12))?;
    deployment.remove()
}

fn too_large() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let file = fs::OpenOptions::new().write(true).open(&deployment.file)?;
    file.set_len(100 << 20)?;
    let ran = deployment.run(&["plan"])?.expect(3)?;
    ensure!(
        ran.elapsed < Duration::from_secs(5),
        "a file of 100 MiB took {:?}",
        ran.elapsed
    );
    Ok(())
}

/// The state directory on a file system without room for a domain's console and disks.
fn full_disk() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let state = deployment.state().display().to_string();
    fs::create_dir_all(&state)?;
    sh(
        "mount",
        [
            "-t",
            "tmpfs",
            "-o",
            "size=2m,mode=0700",
            "pspd-test",
            &state,
        ],
    )?;
    let story = || -> anyhow::Result<()> {
        fs::write(deployment.state().join("filler"), vec![0; 1800 << 10])?;
        deployment
            .run(&["up"])?
            .expect(1)?
            .says("No space left on device")?;
        fs::remove_file(deployment.state().join("filler"))?;
        sh("mount", ["-o", "remount,size=1g", &state])?;
        deployment.run(&["up"])?.expect(0)?;
        no_room_for_memory(&deployment, &state)?;
        deployment.remove()
    };
    let result = story();
    if result.is_err() {
        deployment.run(&["down", "--volumes"])?;
    }
    sh("umount", ["--lazy", &state])?;
    result
}

/// What cannot be saved is undone, and the guest continues.
fn no_room_for_memory(deployment: &Deployment, state: &str) -> anyhow::Result<()> {
    let boot = || deployment.ssh("store", "cat /proc/sys/kernel/random/boot_id");
    let before = boot()?;
    sh("mount", ["-o", "remount,size=64m", state])?;
    for command in [&["save"][..], &["snapshot", "save", "full"]] {
        deployment.run(command)?.expect(1)?;
        deployment.run(&["plan"])?.expect(0)?;
        ensure!(boot()? == before, "the guest did not continue");
    }
    let list = deployment.run(&["snapshot", "list", "--json"])?.expect(0)?;
    ensure!(
        list.json()? == Value::Array(Vec::new()),
        "a snapshot is left"
    );
    sh("mount", ["-o", "remount,size=1g", state])?;
    deployment.run(&["snapshot", "save", "full"])?.expect(0)?;
    deployment
        .run(&["snapshot", "restore", "full", "--discard"])?
        .expect(0)?;
    ensure!(boot()? == before, "the guest booted");
    deployment.run(&["plan"])?.expect(0).map(drop)
}

/// A service must not replace a unit of the guest, nor run as a user with another purpose.
fn name_of_the_guests() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    for name in ["ssh", "mail"] {
        deployment.edit("  store:\n", &format!("  {name}:\n"))?;
        let ran = deployment.run(&["up"])?.expect(3)?;
        ran.says("guests have a unit or a user of this name")?;
        deployment.edit(&format!("  {name}:\n"), "  store:\n")?;
    }
    // One that not every guest has is found when the guest runs.
    deployment.edit("  store:\n", "  fstrim:\n")?;
    let ran = deployment.run(&["up"])?.expect(1)?;
    ran.says("the guest already has a unit `fstrim.service`. Rename the domain")?;
    deployment.remove()
}

fn never_reaches_ssh() -> anyhow::Result<()> {
    let deployment = Deployment::single("    boot: disk\n    boot_timeout: 10s\n")?;
    let image = empty_image(&deployment)?;
    let digest = Digest::of(&fs::read(&image)?);
    deployment.set_image(&format!("{{path: {image}, sha256: {digest}}}"))?;
    let ran = deployment.run(&["up"])?.expect(1)?.says("SSH")?;
    ran.says("its serial console ends with")?;
    deployment.remove()
}

/// Several faults on one deployment, because each boot costs seconds.
fn running_deployment() -> anyhow::Result<()> {
    let mut deployment = Deployment::single("")?;
    deployment.name_state_oddly();
    port_in_use(&deployment)?;
    deployment.run(&["up"])?.expect(0)?.says(READS_DISK)?;
    let left = fs::metadata(release_disk(&deployment))?;
    ensure!(left.blocks() == 0, "the release disk is not empty");
    let said = deployment.ssh("store", "hostname")?;
    ensure!(said == "store", "`hostname` printed `{said}`");
    // It ends with its input, at once: it only has to open.
    deployment.run(&["console", "store"])?.expect(0)?;
    foreign_domain(&deployment)?;
    libvirtd_killed(&deployment)?;
    full_guest(&deployment)?;
    supervisor_killed(&deployment)?;
    host_key_differs(&deployment)?;
    deployment.remove()
}

fn port_in_use(deployment: &Deployment) -> anyhow::Result<()> {
    let _holder = TcpListener::bind(("127.0.0.1", deployment.port))?;
    let ran = deployment.run(&["up"])?.expect(1)?;
    ran.says(&format!("127.0.0.1:{}", deployment.port))
        .map(drop)
}

fn foreign_domain(deployment: &Deployment) -> anyhow::Result<()> {
    let xml = deployment.folder().join("foreign.xml");
    fs::write(
        &xml,
        "<domain type='qemu'><name>other</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os></domain>",
    )?;
    deployment
        .run(&[
            "lab",
            "exec",
            "--",
            "virsh",
            "define",
            &xml.display().to_string(),
        ])?
        .expect(0)?;
    let original = fs::read_to_string(&deployment.file)?;
    let other = original.replace("domains:\n", "domains:\n  other: {image: debian}\n");
    fs::write(&deployment.file, other)?;
    deployment.run(&["up"])?.expect(1)?.says("`other`")?;
    let list = deployment
        .run(&["lab", "exec", "--", "virsh", "list", "--all", "--name"])?
        .expect(0)?;
    ensure!(
        list.stdout.lines().any(|line| line.trim() == "other"),
        "the foreign domain is gone:\n{}",
        list.stdout
    );
    fs::write(&deployment.file, original)?;
    deployment
        .run(&["lab", "exec", "--", "virsh", "undefine", "other"])?
        .expect(0)?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}

fn libvirtd_killed(deployment: &Deployment) -> anyhow::Result<()> {
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = deployment.ssh("store", boot)?;
    deployment
        .run(&["lab", "exec", "--", "sh", "-c", "kill -9 $(pidof libvirtd)"])?
        .expect(0)?;
    deployment.run(&["up"])?.expect(0)?;
    ensure!(
        deployment.ssh("store", boot)? == before,
        "the guest did not survive the end of libvirtd"
    );
    Ok(())
}

fn supervisor_killed(deployment: &Deployment) -> anyhow::Result<()> {
    kill_lab(deployment)?;
    // The guest boots anyway: from here on it has no release disk.
    deployment.edit("    image: debian\n", "    image: debian\n    push: ssh\n")?;
    change_binary(deployment)?;
    let ran = deployment.run(&["up"])?.expect(0)?;
    ensure!(!release_disk(deployment).exists() && !ran.stderr.contains(READS_DISK));
    deployment.run(&["plan"])?.expect(0).map(drop)
}

/// Sends SIGKILL to a lab's supervisor, which ends every process of the lab.
pub(crate) fn kill_lab(deployment: &Deployment) -> anyhow::Result<()> {
    let home = deployment.home().display().to_string();
    for (pid, command) in processes_naming(&home)? {
        if command.contains("lab") && command.contains("supervis") {
            // It may have ended with its parent.
            let _ = sh("kill", ["-9", &pid.to_string()]);
        }
    }
    eventually(
        "every process of the lab to end with its supervisor",
        Duration::from_secs(20),
        || Ok(processes_naming(&home)?.is_empty()),
    )
}

/// A release for which a guest has no room fails before anything changes, and is deployed once there is room.
fn full_guest(deployment: &Deployment) -> anyhow::Result<()> {
    let release = "readlink /opt/pspd/store/current";
    let before = deployment.ssh("store", release)?;
    // Less is left than a release takes.
    let fill = "fallocate -l $(($(stat -f -c '%a * %S' /) - 3000000)) /var/filler";
    deployment.ssh("store", fill)?;
    change_binary(deployment)?;
    let failed = deployment.run(&["up"])?.expect(1)?;
    failed.says("The release in use is unchanged. Free space in the guest")?;
    ensure!(deployment.ssh("store", release)? == before);
    deployment.run(&["status"])?.expect(0)?;
    deployment.ssh("store", "rm /var/filler")?;
    // The guest does not see the file that took the place of its disk.
    let disk = release_disk(deployment);
    fs::rename(&disk, disk.with_extension("old"))?;
    fs::File::create(&disk)?;
    let ran = deployment.run(&["up"])?.expect(0)?;
    ran.says("`store` gets its release by SSH, not by its disk")?;
    fs::remove_file(disk.with_extension("old"))?;
    ensure!(deployment.ssh("store", release)? != before);
    deployment.run(&["plan"])?.expect(0).map(drop)
}

const READS_DISK: &str = "reading the release disk";

fn release_disk(deployment: &Deployment) -> PathBuf {
    deployment.home().join("disks/store-release.raw")
}

/// Makes another release of the service, which works the same.
pub(crate) fn change_binary(deployment: &Deployment) -> anyhow::Result<()> {
    use std::io::Write as _;
    let binary = deployment.binary("database-server");
    let mut file = fs::OpenOptions::new().append(true).open(binary)?;
    Ok(file.write_all(b"changed")?)
}

/// Every command refuses a guest whose host key is not the pinned one.
fn host_key_differs(deployment: &Deployment) -> anyhow::Result<()> {
    let swap = "ssh-keygen -q -t ed25519 -N '' -f /run/other_key && \
        cp /run/other_key /run/pspd/ssh_host_ed25519_key && systemctl restart ssh";
    // The restart may close this connection.
    deployment.run(&["ssh", "store", "--", swap])?;
    eventually(
        "the other host key to be refused",
        Duration::from_secs(30),
        || Ok(deployment.run(&["ssh", "store", "--", "true"])?.code() != Some(0)),
    )?;
    change_binary(deployment)?;
    deployment.run(&["up"])?.expect(1)?.says("host key")?;
    Ok(())
}
