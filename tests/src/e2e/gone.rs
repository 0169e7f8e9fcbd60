//! What commands say is what is: sockets, servers and services that are gone are noticed, and come back or are ended.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes};
use pspd_tests::wait::eventually;
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "what is gone is noticed, and comes back or is ended",
    minutes(60),
    gone,
)];

/// Several stories on one deployment, because each boot costs seconds. The last one ends with its removal.
fn gone() -> anyhow::Result<()> {
    let deployment = deployed()?;
    removed_parts(&deployment).context("parts that left the topology")?;
    overwritten_volume(&deployment).context("a volume with a backup copied over it")?;
    lost_dns(&deployment).context("a DNS server that ended")?;
    broken_service(&deployment).context("a service that cannot run, or is not reached")?;
    removed_service(&deployment).context("a service that left the topology")?;
    lost_sockets(&deployment).context("a lab without its sockets")
}

/// One domain with a service that runs. Its time limits are long: what ends early does not end because of them.
fn deployed() -> anyhow::Result<Deployment> {
    let deployment = Deployment::single("    boot_timeout: 6m\n")?;
    fs::write(deployment.folder().join("extra.conf"), "extra\n")?;
    let [secrets, checkpoint, files, volume] = PARTS;
    deployment.edit("    service:\n", &format!("{volume}    service:\n"))?;
    let health = "health: database.DatabaseService\n";
    let service = format!("{health}{secrets}{checkpoint}{files}      start_timeout: 5m\n");
    deployment.edit(health, &service)?;
    deployment.edit("store.sqlite}", &format!("store.sqlite{VARIABLE}"))?;
    deployment.run(&["up"])?.expect(0)?;
    Ok(deployment)
}

fn boot_id(deployment: &Deployment) -> anyhow::Result<String> {
    deployment.ssh("store", "cat /proc/sys/kernel/random/boot_id")
}

fn plans(deployment: &Deployment, step: &str) -> anyhow::Result<()> {
    let plan = deployment.run(&["plan"])?.expect(4)?;
    ensure!(plan.stdout.contains(step), "{}", plan.stdout);
    Ok(())
}

fn lost_sockets(deployment: &Deployment) -> anyhow::Result<()> {
    let booted = boot_id(deployment)?;
    let lab = deployment.home().join("lab");
    for file in ["run/control", "run/libvirt-sock", "lock"] {
        fs::remove_file(lab.join(file))?;
        deployment.run(&["up"])?.expect(0)?;
        deployment.run(&["plan"])?.expect(0)?;
        deployment.run(&["status"])?.expect(0)?;
        // The supervisor looks once a second; the commands may take less.
        eventually(
            &format!("`{file}` to be restored"),
            Duration::from_secs(60),
            || Ok(lab.join(file).exists()),
        )?;
    }
    ensure!(boot_id(deployment)? == booted, "the guest was restarted");
    fs::remove_dir_all(lab.join("run"))?;
    // It also checks that no process is left.
    deployment.remove()
}

fn lost_dns(deployment: &Deployment) -> anyhow::Result<()> {
    let booted = boot_id(deployment)?;
    let name = &deployment.name;
    for signal in ["KILL", "STOP"] {
        let script = format!("kill -{signal} $(cat /run/libvirt/network/{name}.pid)");
        deployment
            .run(&["lab", "exec", "--", "sh", "-c", &script])?
            .expect(0)?;
        let status = deployment.run(&["status", "--json"])?.expect(4)?.json()?;
        ensure!(status["network"]["dns"] == Value::Bool(false), "{status}");
        plans(deployment, "DNS server")?;
        deployment.run(&["up"])?.expect(0)?;
        deployment.run(&["plan"])?.expect(0)?;
        deployment.run(&["status"])?.expect(0)?;
        deployment.ssh("store", "getent hosts store.pspd.internal")?;
    }
    ensure!(boot_id(deployment)? == booted, "the guest was restarted");
    Ok(())
}

fn overwritten_volume(deployment: &Deployment) -> anyhow::Result<()> {
    let volume = deployment.home().join("volumes/store.data.qcow2");
    let backup = deployment.folder().join("backup");
    let mark = "/var/lib/store/mark";
    deployment.ssh("store", &format!("echo saved >{mark} && sync"))?;
    deployment.run(&["stop"])?.expect(0)?;
    fs::copy(&volume, &backup)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.ssh("store", &format!("rm {mark} && sync"))?;
    // The same file with another content.
    fs::copy(&backup, &volume)?;
    for command in ["plan", "up"] {
        let ran = deployment.run(&[command])?;
        ensure!(!ran.status.success(), "{}", ran.stdout);
        ran.says("another file was copied over that of the disk `data`")?;
    }
    // As the hint says.
    deployment.run(&["stop", "--force", "store"])?.expect(0)?;
    fs::rename(&backup, &volume)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    let found = deployment.ssh("store", &format!("cat {mark}"))?;
    ensure!(found.trim() == "saved", "{found}");
    Ok(())
}

fn broken_service(deployment: &Deployment) -> anyhow::Result<()> {
    let binary = deployment.binary("database-server");
    let whole = fs::read(&binary)?;
    let mut foreign = whole.clone();
    // `e_machine`: AArch64.
    foreign[18] = 183;
    let cases: [(&[u8], &str); 7] = [
        (b"#!/bin/sh\nexit 3\n", "exited with code 3"),
        (b"#!/bin/sh\nexit 0\n", "exited with code 0"),
        (b"#!/usr/bin/nonesuch\n", "needs `/usr/bin/nonesuch`"),
        (b"#!/bin/sh\r\nexit 0\r\n", "CR LF"),
        (&foreign, "another architecture"),
        (
            &sshd("127.0.0.1"),
            "`store` listens on port 50051 of its loopback address only",
        ),
        (&sshd("0.0.0.0"), "`store` answers without TLS on its port"),
    ];
    for (content, message) in cases {
        fs::write(&binary, content)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        let started = Instant::now();
        deployment.run(&["up"])?.expect(1)?.says(message)?;
        ensure!(
            started.elapsed() < Duration::from_secs(200),
            "`{message}` took {:?}",
            started.elapsed()
        );
    }
    fs::write(&binary, whole)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["status"])?.expect(0).map(drop)
}

/// A server that is not a gRPC service, on an address.
fn sshd(address: &str) -> Vec<u8> {
    format!(
        "#!/bin/sh\nset -e\nkey=/var/lib/store/key\n[ -e $key ] || ssh-keygen -q -t ed25519 -N '' -f $key\n\
         exec /usr/sbin/sshd -D -e -f /dev/null -h $key -o PidFile=none -o ListenAddress={address}:50051\n"
    )
    .into_bytes()
}

fn removed_service(deployment: &Deployment) -> anyhow::Result<()> {
    let booted = boot_id(deployment)?;
    let text = fs::read_to_string(&deployment.file)?;
    let (before, service) = text
        .split_once("    service:\n")
        .context("the topology has no service")?;
    let (_, after) = service
        .split_once("    boot_timeout:")
        .context("the topology has no time limit")?;
    fs::write(
        &deployment.file,
        format!("{before}    boot_timeout:{after}"),
    )?;
    plans(deployment, "remove its service")?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    let states = "systemctl is-active store; systemctl is-enabled store; ls /opt/pspd; true";
    let states = deployment.ssh("store", states)?;
    ensure!(
        states.starts_with("inactive") && !states.contains("enabled"),
        "the service is left: {states}"
    );
    ensure!(boot_id(deployment)? == booted, "the guest was restarted");
    fs::write(&deployment.file, text)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["status"])?.expect(0).map(drop)
}

/// The lines of a service and its domain that are removed later, and the file that they name.
const PARTS: [&str; 4] = [
    "      secrets: {TOKEN: generate}\n",
    "      checkpoint: [/bin/true]\n",
    "      files: {extra.conf: extra.conf}\n",
    "      extra: {size: 64 MiB, mount: /srv/extra}\n",
];

const VARIABLE: &str = ", EXTRA: value}";

fn removed_parts(deployment: &Deployment) -> anyhow::Result<()> {
    let look = "cd /opt/pspd/store/current; cat store.service environment; ls; cut -d ' ' -f 2 /proc/mounts; \
        tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value store)/environ";
    let marks = ["ExecReload", "EXTRA=", "TOKEN=", "extra.conf", "/srv/extra"];
    let seen = deployment.ssh("store", look)?;
    ensure!(marks.iter().all(|mark| seen.contains(mark)), "{seen}");
    for part in PARTS {
        deployment.edit(part, "")?;
    }
    deployment.edit(VARIABLE, "}")?;
    let port = deployment.port;
    deployment.edit(&format!("    publish: [\"127.0.0.1:{port}:50051\"]\n"), "")?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    deployment.run(&["status"])?.expect(0)?;
    let seen = deployment.ssh("store", look)?;
    ensure!(!marks.iter().any(|mark| seen.contains(mark)), "{seen}");
    ensure!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "port {port} is still published"
    );
    Ok(())
}
