//! Firmware and boot paths, read from inside the guest; edits while `up` runs.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use pspd::spec::Digest;
use pspd_tests::deployment::{Deployment, eventually, processes_naming};

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    ("every firmware boots the same disk", every_firmware),
    ("an image by its path boots", image_by_path),
    ("a topology edited while up runs", edited_while_running),
];

/// SeaBIOS as a file, as anyone's own ROM would come.
const ROM: &str = "/usr/share/seabios/bios-256k.bin";

/// One domain, redefined from one firmware to the next; its data stays.
fn every_firmware() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let rom = fs::read(ROM)?;
    let sha256 = Digest::of(&rom);
    let wrong = format!("firmware: {{rom: {ROM}, sha256: {}}}", "0".repeat(64));
    let mut current = "memory: 384 MiB".to_owned();
    let mut choose = |lines: &str| {
        let next = format!("memory: 384 MiB\n    {lines}");
        let edited = deployment.edit(&current, &next);
        current = next;
        edited
    };
    // What the kernel says of how it was started: GRUB names the image, a direct kernel's command line has none.
    for (lines, efi, from_disk) in [
        ("boot: kernel".to_owned(), false, false),
        ("boot: disk".to_owned(), false, true),
        ("boot: disk\n    firmware: uefi".to_owned(), true, true),
        ("boot: kernel\n    firmware: uefi".to_owned(), true, false),
        (
            format!("boot: disk\n    firmware: {{rom: {ROM}, sha256: {sha256}}}"),
            false,
            true,
        ),
    ] {
        choose(&lines)?;
        deployment.run(&["up"])?.expect(0)?;
        let seen = deployment.ssh(
            "store",
            "test -d /sys/firmware/efi && echo efi; cat /proc/cmdline",
        )?;
        ensure!(
            (seen.contains("efi\n"), seen.contains("BOOT_IMAGE=")) == (efi, from_disk),
            "with `{lines}` the guest says {seen:?}"
        );
        let status = deployment.status()?;
        ensure!(
            status["domains"][0]["service"]["health"] == "serving",
            "with `{lines}`: {status}"
        );
    }
    secrets_stay_secret(&deployment)?;
    choose(&wrong)?;
    deployment.run(&["up"])?.expect(1)?.says("sha256")?;
    deployment.remove()
}

/// No word of a process's command line is a part of the guest's private key.
fn secrets_stay_secret(deployment: &Deployment) -> anyhow::Result<()> {
    let key = deployment.ssh("store", "cat /run/pspd/ssh_host_ed25519_key")?;
    let body = key.lines().nth(3).unwrap_or_default();
    ensure!(body.len() > 40, "the guest has no host key: {key:?}");
    let showing = processes_naming(body)?;
    ensure!(showing.is_empty(), "{showing:?} show the host key");
    Ok(())
}

/// `up` makes true what it read at its start; the next one makes the edit true.
fn edited_while_running() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let running = deployment.spawn(&["up"])?;
    eventually("`up` read the topology", Duration::from_secs(30), || {
        Ok(running.stderr()?.contains(" steps"))
    })?;
    deployment.edit("environment: {", "environment: {LOG_LEVEL: debug, ")?;
    running.wait()?.expect(0)?;
    let plan = deployment.run(&["plan"])?.expect(4)?;
    ensure!(
        plan.stdout.contains("store"),
        "the edit is not planned:\n{}",
        plan.stdout
    );
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    deployment.remove()
}

/// The recipe's own disk, as a file that anyone could bring.
fn image_by_path() -> anyhow::Result<()> {
    let deployment = Deployment::single("    boot: disk\n")?;
    let built = deployment.run(&["image", "build"])?.expect(0)?.stdout;
    let disk = built.trim().rsplit(' ').next().unwrap_or_default();
    let sha256 = Digest::of(&fs::read(disk)?);
    deployment.set_image(&format!(
        "{{path: {disk}, sha256: {sha256}, seed: credentials}}"
    ))?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["status"])?.expect(0)?;
    deployment.remove()
}
