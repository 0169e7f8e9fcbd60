//! Clones: a second deployment of the same state, over the disks of the first one.

use anyhow::ensure;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::Ran;
use serde_json::Value;

/// A clone has the state of its original and nothing else of it, and neither changes what the other has.
pub(super) fn cloned(deployment: &Deployment) -> anyhow::Result<()> {
    let (name, folder) = (
        format!("{}-copy", deployment.name),
        deployment.folder().join("copy").display().to_string(),
    );
    let in_clone = |args: &[&str]| -> anyhow::Result<Ran> {
        deployment.run(&[&["--deployment", &name], args].concat())
    };
    let ssh = |script: &str| -> anyhow::Result<String> {
        Ok(in_clone(&["ssh", "store", "--", script])?.expect(0)?.stdout)
    };
    // Without `sync`: the clone has it anyway.
    deployment.ssh(
        "store",
        "echo original >/root/of; echo kept >/var/lib/store/of",
    )?;
    deployment
        .run(&["clone", &deployment.name])?
        .expect(1)?
        .says("already exists")?;
    let clone = ["clone", &name, "--into", &folder];
    let snapshot = format!("clone-{name}");
    // One of the user's own is not replaced.
    deployment
        .run(&["snapshot", "save", &snapshot, "--disk-only"])?
        .expect(0)?;
    deployment.run(&clone)?.expect(1)?.says("already exists")?;
    deployment.run(&["snapshot", "rm", &snapshot])?.expect(0)?;
    deployment.run(&clone)?.expect(0)?;
    deployment.run(&clone)?.expect(1)?.says("already exists")?;
    ensure!(ssh("cat /root/of /var/lib/store/of")? == "original\nkept\n");
    in_clone(&["status"])?.expect(0)?;
    // The first lines of a key are the same for all.
    let own = "sed 1,2d /run/pspd/ssh_host_ed25519_key; cat /run/pspd/authorized_keys /sys/class/net/e*/address; grep store /run/pspd/hosts";
    let (ours, theirs) = (deployment.ssh("store", own)?, ssh(own)?);
    for line in ours.lines().filter(|line| !line.starts_with("-----")) {
        ensure!(!theirs.contains(line), "both have: {line}");
    }
    let published = |status: &Value| status["domains"][0]["published"].clone();
    let status = in_clone(&["status", "--json"])?.expect(0)?.json()?;
    ensure!(published(&status) != published(&deployment.status()?));

    ssh("echo clone >/root/of; sync")?;
    deployment.ssh("store", "rm /root/of /var/lib/store/of; sync")?;
    let needs = format!(
        "the disks of `{name}`, a clone of `{}`, need those of",
        deployment.name
    );
    let remove = ["down", "--volumes", "--snapshots"];
    deployment.run(&remove)?.expect(1)?.says(&needs)?;
    // Removing a snapshot, or `down`, does not remove what the clone needs.
    deployment.run(&["snapshot", "rm", &snapshot])?.expect(0)?;
    deployment.run(&["down"])?.expect(0)?;
    in_clone(&["restart", "--cold"])?.expect(0)?;
    ensure!(ssh("cat /root/of /var/lib/store/of")? == "clone\nkept\n");
    in_clone(&["plan"])?.expect(0)?;
    in_clone(&["down", "--volumes"])?.expect(0)?;
    deployment.run(&["up"])?.expect(0).map(drop)
}
