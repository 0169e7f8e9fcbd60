//! Firmware and boot paths, as seen from inside the guest.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_model::spec::Digest;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{output, processes_naming};
use pspd_tests::root;
use pspd_tests::scenario::{Scenario, minutes, root as is_root, say};
use pspd_tests::wait::eventually;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "every firmware boots the same disk",
        minutes(60),
        every_firmware,
    ),
    Scenario::new(
        "a cloud image boots from its path",
        minutes(30),
        cloud_image,
    )
    .needs(is_root),
];

/// A stock image takes two minutes to boot where nothing else runs.
const BOOT: Duration = Duration::from_secs(600);

/// SeaBIOS as a file, like any ROM of a user.
const ROM: &str = "/usr/share/seabios/bios-256k.bin";

/// One domain, redefined with one firmware after the other; its data is kept. Other scenarios boot with SeaBIOS.
fn every_firmware() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.build(&["coreboot"])?;
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
    for (lines, word, vendor, by) in [
        (
            "firmware: {coreboot: {payload: linux, cmdline: from.the=rom}}".to_owned(),
            "coreboot",
            "coreboot",
            By::Rom,
        ),
        (
            "boot: disk\n    firmware: coreboot".to_owned(),
            "coreboot",
            "coreboot",
            By::Grub,
        ),
        (
            "boot: kernel\n    firmware: coreboot".to_owned(),
            "coreboot",
            "coreboot",
            By::Hypervisor,
        ),
        (
            "boot: disk\n    firmware: uefi".to_owned(),
            "uefi",
            "EFI",
            By::Grub,
        ),
        (
            "boot: kernel\n    firmware: uefi".to_owned(),
            "uefi",
            "EFI",
            By::Hypervisor,
        ),
        (
            format!("boot: disk\n    firmware: {{rom: {ROM}, sha256: {sha256}}}"),
            "rom",
            "SeaBIOS",
            By::Grub,
        ),
    ] {
        choose(&lines)?;
        let up = deployment.run(&["up"])?.expect(0)?;
        seen_inside(&deployment, word, vendor, by).with_context(|| format!("with `{lines}`"))?;
        ensure!(
            up.stderr.contains("reported firmware"),
            "`up` reports no boot stages:\n{}",
            up.stderr
        );
        // The hypervisor's own kernel restarts in another scenario, and a ROM of a user as SeaBIOS does.
        if by == By::Rom || (by == By::Grub && matches!(word, "coreboot" | "uefi")) {
            restarts(&deployment).with_context(|| format!("restart with `{lines}`"))?;
        }
    }
    secrets_stay_secret(&deployment)?;
    choose(&wrong)?;
    deployment.run(&["up"])?.expect(1)?.says("sha256")?;
    // 64 KiB of HLT instructions: a ROM that never reaches a payload.
    let empty = deployment.folder().join("empty.rom");
    fs::write(&empty, [0xf4; 64 << 10])?;
    let sha256 = Digest::of(&[0xf4; 64 << 10]);
    choose(&format!(
        "boot_timeout: 10s\n    firmware: {{rom: {}, sha256: {sha256}}}",
        empty.display()
    ))?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("timed out waiting for the firmware's hand-over")?
        .says("its firmware's log ends with:")?
        .says("may be for another board")?;
    deployment.remove()
}

fn restarts(deployment: &Deployment) -> anyhow::Result<()> {
    let before = boot_id(deployment)?;
    let restart = deployment.run(&["restart", "store"])?.expect(0)?;
    ensure!(
        !restart.stderr.contains("forcing it off"),
        "{}",
        restart.stderr
    );
    ensure!(boot_id(deployment)? != before, "the guest did not restart");
    deployment.run(&["status"])?.expect(0).map(drop)
}

/// A guest that restarts from inside comes back with its service, and nothing differs from the topology.
fn restarts_by_itself(deployment: &Deployment) -> anyhow::Result<()> {
    let before = boot_id(deployment)?;
    deployment.ssh("store", "systemctl --no-block reboot")?;
    eventually("the next boot", BOOT, || {
        let status = deployment.run(&["status"])?;
        Ok(status.code() == Some(0) && boot_id(deployment).is_ok_and(|now| now != before))
    })?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}

fn boot_id(deployment: &Deployment) -> anyhow::Result<String> {
    deployment.ssh("store", "cat /proc/sys/kernel/random/boot_id")
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum By {
    Hypervisor,
    Grub,
    Rom,
}

/// Compares what the guest reports about its firmware with what pspd reports.
pub(crate) fn seen_inside(
    deployment: &Deployment,
    word: &str,
    vendor: &str,
    by: By,
) -> anyhow::Result<()> {
    let seen = deployment.ssh(
        "store",
        "cat /sys/class/dmi/id/bios_vendor /sys/class/dmi/id/bios_version /proc/cmdline; \
         test ! -d /sys/firmware/efi || echo efi; \
         ! grep -q COREv4 /sys/firmware/acpi/tables/* 2>/dev/null || echo tables",
    )?;
    let lines: Vec<&str> = seen.lines().collect();
    ensure!(lines.len() >= 3, "the guest reports {seen:?}");
    // GRUB names the image; a direct kernel's command line has none.
    let started_by = match (
        lines[2].contains("BOOT_IMAGE="),
        lines[2].contains("from.the=rom"),
    ) {
        (true, _) => By::Grub,
        (_, true) => By::Rom,
        _ => By::Hypervisor,
    };
    ensure!(
        lines[0].contains(vendor)
            && started_by == by
            && lines.contains(&"tables") == (word == "coreboot")
            && lines.contains(&"efi") == (word == "uefi"),
        "the guest reports {seen:?}"
    );
    let status = deployment.status()?;
    let domain = &status["domains"][0];
    let reported = &domain["reported"];
    ensure!(
        domain["firmware"] == word
            && reported["vendor"] == lines[0]
            && reported["version"] == lines[1]
            && reported["as_asked"] == true
            && domain["service"]["health"] == "serving",
        "{status}"
    );
    let boot = &domain["boot"];
    let stages: Vec<f64> = ["firmware", "kernel", "init", "ssh"]
        .iter()
        .filter_map(|stage| boot[*stage].as_f64())
        .collect();
    ensure!(
        stages.len() == 4 && stages.is_sorted() && stages[0] > 0.0,
        "unexpected boot stages: {boot}"
    );
    if word != "uefi" {
        let log = deployment
            .run(&["logs", "--firmware", "store"])?
            .expect(0)?;
        let says = if word == "coreboot" {
            "coreboot-4.15"
        } else {
            "SeaBIOS (version"
        };
        ensure!(
            log.stdout.contains(says),
            "unexpected firmware log:\n{}",
            log.stdout
        );
    }
    Ok(())
}

/// No process has the guest's private key on its command line.
fn secrets_stay_secret(deployment: &Deployment) -> anyhow::Result<()> {
    let key = deployment.ssh("store", "cat /run/pspd/ssh_host_ed25519_key")?;
    let body = key.lines().nth(3).unwrap_or_default();
    ensure!(body.len() > 40, "the guest has no host key: {key:?}");
    let showing = processes_naming(body)?;
    ensure!(
        showing.is_empty(),
        "the host key is on command lines: {showing:?}"
    );
    Ok(())
}

/// An image as distributions publish them, with an SSH server, a systemd and a cloud-init of its own.
fn cloud_image() -> anyhow::Result<()> {
    let script = root().join("tests/cloud-image");
    let built = Digest::of(&fs::read(&script)?);
    let image = root().join(format!("target/cloud-image-{}.qcow2", built.short()));
    if !image.exists() {
        say("building the image");
        let new = image.with_extension("new");
        output(Command::new(&script).arg(&new))?;
        fs::rename(&new, &image)?;
    }
    let sha256 = Digest::of(&fs::read(&image)?);
    let deployment = Deployment::single("    boot: disk\n    boot_timeout: 5m\n")?;
    deployment.set_image(&format!("{{path: {}, sha256: {sha256}}}", image.display()))?;
    deployment.edit("disks:\n", "disks:\n      system: 6 GiB\n")?;
    deployment.run(&["up"])?.expect(0)?;
    let ssh = |command: &str| deployment.ssh("store", command);
    // It starts the SSH server again when it changes its configuration.
    let mut seen = String::new();
    eventually("cloud-init", BOOT, || {
        seen = ssh("cloud-init status --wait --long").unwrap_or_else(|error| format!("{error:#}"));
        Ok(seen.contains("status: done"))
    })
    .context(seen)?;
    let booted = ssh("cat /proc/cmdline; hostname; systemctl is-active ssh store")?;
    ensure!(
        booted.contains("BOOT_IMAGE=") && booted.ends_with("\nstore\nactive\nactive"),
        "{booted}"
    );
    let size = ssh("df --output=size --block-size=1M / | tail -n 1")?;
    let size: u32 = size.trim().parse().context("no size")?;
    // The image has 2000 MiB.
    ensure!(size > 5000, "the root file system has {size} MiB");
    restarts_by_itself(&deployment)?;
    deployment.remove()
}
