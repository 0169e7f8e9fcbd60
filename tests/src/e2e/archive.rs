//! Export and import: a round trip with faults on the way, and an archive that tar and virsh alone bring up.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pspd::health;
use pspd::identity::Identity;
use pspd::reach::Reach;
use pspd::state::Paths;
use pspd_lab::Lab;
use pspd_model::spec::Name;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{Ran, output, run, sh};
use pspd_tests::pspd;
use pspd_tests::scenario::{Scenario, minutes, root, say};
use pspd_tests::wait::eventually;
use tokio_util::sync::CancellationToken;

use super::faults;

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("export and import", minutes(60), round_trip).needs(root)];

const ARCHIVE: &str = "vm-export.tar.xz";
const PROOF: &str = "/var/lib/store/proof";
/// All characters that an environment file escapes.
const SECRET: &str = "pa$$w0rd-0002\"x\\y`z";
const SERVING: Duration = Duration::from_secs(240);

fn round_trip() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let health = "health: database.DatabaseService\n";
    fs::write(deployment.folder().join("word"), format!("{SECRET}\n"))?;
    let more = "      checkpoint: [checkpoint]\n      secrets: {WORD: {file: word}}\n";
    deployment.edit(health, &format!("{health}{more}"))?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.ssh(
        "store",
        &format!("echo data >{PROOF}; echo system >/root/proof"),
    )?;
    say("SIGKILL of an export; `up` merges its snapshot");
    killed_export(&deployment)?;
    say("SIGKILL at each journal position of an export; `up` converges");
    killed_everywhere(&deployment)?;
    say("the lab dies during an export");
    lab_dies(&deployment)?;
    say("a full disk");
    full_disk(&deployment)?;
    say("export while it runs");
    let archive = deployment.folder().join(ARCHIVE);
    export(&deployment)?;
    say("no secret is in an archive");
    without_secrets(&deployment)?;
    say("a damaged archive");
    damaged(&deployment, &archive)?;
    deployment.run(&["down", "--volumes"])?.expect(0)?;
    say("SIGKILL of an import; a full disk; then import under another name");
    let copy = format!("{}-copy", deployment.name);
    killed_import(&deployment, &copy)?;
    full_import(&deployment)?;
    let imported = deployment.run(&["import", ARCHIVE, "--name", &copy]);
    // The copy is removed in any case: only the first deployment is removed on drop.
    let result = imported
        .and_then(|ran| ran.expect(0))
        .and_then(|_| read_back(&deployment, &copy));
    of(&deployment, &copy, &["down", "--volumes"])?.expect(0)?;
    result?;
    ensure!(
        !deployment.state().join("deployments").join(&copy).exists(),
        "the copy's folder is left"
    );
    Ok(())
}

/// Runs `pspd` for another deployment of the same state directory.
fn of(deployment: &Deployment, name: &str, args: &[&str]) -> anyhow::Result<Ran> {
    let mut words = vec!["--deployment", name];
    words.extend(args);
    deployment.run(&words)
}

fn killed_export(deployment: &Deployment) -> anyhow::Result<()> {
    let overlay = deployment.home().join("disks/store.qcow2.snapshot");
    let running = deployment.spawn(&["export", ARCHIVE])?;
    eventually(
        "the export to freeze the disks",
        Duration::from_secs(120),
        || Ok(overlay.exists()),
    )?;
    running.signal("KILL")?;
    running.wait()?;
    ensure!(overlay.exists(), "the export ended before it was killed");
    ensure!(
        !deployment.folder().join(ARCHIVE).exists(),
        "a partial archive is left"
    );
    let plan = deployment.run(&["plan"])?.expect(4)?;
    ensure!(
        plan.stdout.contains("snapshot"),
        "the plan has no step for the overlay:\n{}",
        plan.stdout
    );
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    intact(deployment)
}

/// The entries of an export of one running domain: the run's own, and the start and the end of its six steps.
const ENTRIES: usize = 13;

/// Kills an export after each entry of its journal. `up` must bring back a guest that runs on its own disks.
fn killed_everywhere(deployment: &Deployment) -> anyhow::Result<()> {
    let archive = deployment.folder().join("killed.tar");
    let mut reached = BTreeSet::new();
    for count in 1..=ENTRIES {
        let mut running = deployment.spawn(&["export", "--force", "killed.tar"])?;
        let began = Instant::now();
        // Some steps take a millisecond, which is shorter than any pause between two looks.
        while export_entries(deployment) < count && running.is_running()? {
            ensure!(
                began.elapsed() < Duration::from_secs(120),
                "the journal of the export did not reach {count} entries"
            );
            std::thread::yield_now();
        }
        // This kills it.
        drop(running);
        reached.insert(export_entries(deployment));
        if archive.exists() {
            let verify = ["export", "--verify", "killed.tar"];
            deployment.run(&verify)?.expect(0)?;
            fs::remove_file(&archive)?;
        }
        deployment.run(&["up"])?.expect(0)?;
        deployment.run(&["plan"])?.expect(0)?;
        intact(deployment)?;
    }
    ensure!(
        reached.len() > ENTRIES / 2,
        "the exports were killed at few positions: {reached:?}"
    );
    say(&format!("killed after these entries: {reached:?}"));
    Ok(())
}

/// How many entries the journal has, if it is an export's.
fn export_entries(deployment: &Deployment) -> usize {
    let journal = fs::read_to_string(deployment.home().join("journal.jsonl"));
    let journal = journal.unwrap_or_default();
    let mut lines = journal.lines();
    match lines.next() {
        Some(first) if first.contains("\"export\"") => 1 + lines.count(),
        _ => 0,
    }
}

/// The frozen disks are packed completely; `up` merges what the guests wrote since.
fn lab_dies(deployment: &Deployment) -> anyhow::Result<()> {
    let overlay = deployment.home().join("disks/store.qcow2.snapshot");
    let file = deployment.folder().join("dying.tar.xz");
    let running = deployment.spawn(&["export", "dying.tar.xz"])?;
    eventually(
        "the export to freeze the disks",
        Duration::from_secs(120),
        || Ok(overlay.exists()),
    )?;
    // The guest is paused until every overlay exists.
    eventually("the guest to run again", Duration::from_secs(120), || {
        let state = deployment.run(&["lab", "exec", "--", "virsh", "domstate", "store"])?;
        Ok(state.expect(0)?.stdout.trim() == "running")
    })?;
    // The export is stopped, so that the lab dies while it packs.
    running.signal("STOP")?;
    ensure!(!file.exists(), "the export ended before its lab died");
    deployment.ssh("store", &format!("echo data >{PROOF}.late; sync"))?;
    faults::kill_lab(deployment)?;
    running.signal("CONT")?;
    running.wait()?.expect(1)?.says("Run `pspd up` to retry")?;
    deployment
        .run(&["export", "--verify", "dying.tar.xz"])?
        .expect(0)?;
    deployment.run(&["up"])?.expect(0)?;
    let late = deployment.ssh("store", &format!("cat {PROOF}.late"))?;
    ensure!(late == "data", "data written during the export is lost");
    intact(deployment)
}

/// No overlay is left, and the written data is intact.
fn intact(deployment: &Deployment) -> anyhow::Result<()> {
    for folder in ["disks", "volumes"] {
        for entry in fs::read_dir(deployment.home().join(folder))?.flatten() {
            let name = entry.file_name();
            ensure!(
                !name.to_string_lossy().contains("snapshot"),
                "the overlay {name:?} is left"
            );
        }
    }
    let proof = deployment.ssh("store", &format!("cat {PROOF} /root/proof"))?;
    ensure!(proof == "data\nsystem", "the data is {proof:?}");
    Ok(())
}

fn full_disk(deployment: &Deployment) -> anyhow::Result<()> {
    without_space(deployment, |folder| {
        let to = folder.join("a.tar.zst").display().to_string();
        deployment.run(&["export", &to])
    })?;
    intact(deployment)
}

/// First the target folder has no space, then the state directory.
fn full_import(deployment: &Deployment) -> anyhow::Result<()> {
    let archive = deployment.folder().join(ARCHIVE).display().to_string();
    without_space(deployment, |folder| {
        let into = folder.join("full").display().to_string();
        deployment.run(&["import", &archive, "--name", "full", "--into", &into])
    })?;
    let left = deployment.state().join("deployments/full");
    ensure!(!left.exists(), "the deployment's state is left");
    let into = deployment.folder().join("full");
    without_space(deployment, |folder| {
        let mut import = Command::new(pspd());
        import.arg("--state-dir").arg(folder.join("state"));
        import.args(["import", &archive, "--name", "full", "--into"]);
        let ran = run(import.arg(&into))?;
        fs::remove_dir(folder.join("state/deployments"))?;
        fs::remove_dir(folder.join("state"))?;
        Ok(ran)
    })?;
    ensure!(!into.exists(), "the target folder is left");
    Ok(())
}

/// Runs a command in a folder with 2 MiB of space: it must fail with that reason and leave nothing there.
fn without_space(
    deployment: &Deployment,
    fill: impl FnOnce(&Path) -> anyhow::Result<Ran>,
) -> anyhow::Result<()> {
    let folder = deployment.folder().join("small");
    fs::create_dir_all(&folder)?;
    let path = folder.display().to_string();
    sh(
        "mount",
        ["-t", "tmpfs", "-o", "size=2m", "pspd-test", &path],
    )?;
    let ran = fill(&folder);
    let left: Vec<_> = fs::read_dir(&folder)?.flatten().collect();
    sh("umount", ["--lazy", &path])?;
    let ran = ran?.expect(1)?;
    let ran = ran.root_cause("No space left on device (os error 28)")?;
    ensure!(!ran.stderr.contains("damaged"), "{}", ran.stderr);
    ensure!(left.is_empty(), "files are left: {left:?}");
    Ok(())
}

fn export(deployment: &Deployment) -> anyhow::Result<()> {
    let ran = deployment.run(&["export", "--clean", ARCHIVE])?.expect(0)?;
    ensure!(ran.stdout.contains("were paused for"), "{}", ran.stdout);
    ensure!(
        !ran.stderr.contains("packed without trimming"),
        "{}",
        ran.stderr
    );
    let ran = ran.says("private keys are not included")?;
    let log = deployment.ssh("store", "stat -c %s /var/lib/store/store.sqlite-wal")?;
    ensure!(
        log == "0",
        "the database's log has {log} bytes after the checkpoint"
    );
    say(&ran.stdout);
    deployment
        .run(&["export", ARCHIVE])?
        .expect(1)?
        .says("--force")?;
    deployment
        .run(&["export", "--verify", ARCHIVE])?
        .expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    intact(deployment)
}

/// Looks for the service's secret and its private key, as text and in base64, in archives without and with secrets.
fn without_secrets(deployment: &Deployment) -> anyhow::Result<()> {
    let paths = Paths::resolve(Some(deployment.state()), None)?;
    let home = paths.deployment(&Name::new(&deployment.name)?);
    let identity = Identity::load(&home.keys())?.context("the deployment has no keys")?;
    let key = identity.service(&Name::new("store")?)?.key;
    let key_line = key.lines().nth(2).context("the key has one line")?;
    let escaped = r#"pa\$\$w0rd-0002\"x\\y\`z"#;
    let mut forms = Vec::new();
    for text in [SECRET, escaped, key_line] {
        forms.push(text.to_owned());
        // What base64 has of the text, wherever it begins in a group of three bytes.
        for before in 0..3 {
            let encoded = BASE64.encode(format!("{}{text}", " ".repeat(before)));
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    let found = |arguments: &[&str]| -> anyhow::Result<Vec<bool>> {
        let archive = deployment.folder().join("secrets.tar");
        let command = [&["export", "--force", "secrets.tar"][..], arguments].concat();
        deployment.run(&command)?.expect(0)?;
        let mut found = Vec::new();
        for form in &forms {
            let mut grep = Command::new("grep");
            let grep = grep.args(["-aqF", "-e", form]).arg(&archive);
            found.push(grep.status().context("failed to run grep")?.success());
        }
        fs::remove_file(&archive)?;
        Ok(found)
    };
    let with = found(&["--with-secrets"])?;
    ensure!(
        with[4] && with[8],
        "the disk lacks the secret or the key: {with:?}"
    );
    let without = found(&[])?;
    ensure!(!without.contains(&true), "{forms:?}: {without:?}");
    Ok(())
}

/// A copy with one bit flipped is refused before anything is created.
fn damaged(deployment: &Deployment, archive: &Path) -> anyhow::Result<()> {
    let mut bytes = fs::read(archive)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(deployment.folder().join("damaged.tar.xz"), bytes)?;
    for command in [
        vec!["export", "--verify", "damaged.tar.xz"],
        vec!["import", "damaged.tar.xz", "--name", "damaged"],
    ] {
        deployment.run(&command)?.expect(1)?.says("damaged")?;
    }
    ensure!(
        !deployment.folder().join("damaged").exists(),
        "the target folder is left"
    );
    ensure!(
        !deployment.state().join("deployments/damaged").exists(),
        "the deployment's state is left"
    );
    Ok(())
}

fn killed_import(deployment: &Deployment, copy: &str) -> anyhow::Result<()> {
    let hidden = deployment.folder().join(format!(".{copy}.importing"));
    let running = deployment.spawn(&["import", ARCHIVE, "--name", copy, "--no-up"])?;
    eventually("the import to unpack", Duration::from_secs(60), || {
        Ok(hidden.exists())
    })?;
    running.signal("KILL")?;
    running.wait()?;
    ensure!(
        !deployment.folder().join(copy).exists(),
        "a partial import is left"
    );
    let dry = deployment
        .run(&["import", ARCHIVE, "--name", copy, "--dry-run"])?
        .expect(0)?;
    ensure!(dry.stdout.contains("store"), "{}", dry.stdout);
    Ok(())
}

fn read_back(deployment: &Deployment, copy: &str) -> anyhow::Result<()> {
    let status = of(deployment, copy, &["status", "--json"])?;
    let status = status.expect(0)?.json()?;
    ensure!(
        status["domains"][0]["service"]["health"] == "serving",
        "{status}"
    );
    let cat = format!("cat {PROOF} /root/proof");
    let proof = of(deployment, copy, &["ssh", "store", "--", &cat])?.expect(0)?;
    ensure!(
        proof.stdout == "data\nsystem\n",
        "the data is {:?}",
        proof.stdout
    );
    // The topology in its folder describes the deployment.
    let file = deployment.folder().join(copy).join("topology.yaml");
    output(
        Command::new(pspd())
            .arg("--file")
            .arg(&file)
            .arg("--state-dir")
            .arg(deployment.state())
            .arg("plan"),
    )?;
    ensure!(
        !deployment
            .folder()
            .join(format!(".{copy}.importing"))
            .exists(),
        "a hidden folder is left"
    );
    Ok(())
}

/// Exports a running deployment, removes it, and follows the archive's README in an empty lab. Then probes each service
/// with the keys from the archive, and expects the web server's `path` to contain `expected`.
pub(crate) fn plain_way(deployment: &Deployment, path: &str, expected: &str) -> anyhow::Result<()> {
    deployment
        .run(&["export", "--with-secrets", "plain.tar.zst"])?
        .expect(0)?;
    let home =
        Paths::resolve(Some(deployment.state()), None)?.deployment(&Name::new(&deployment.name)?);
    let spec = home.recorded_spec()?.context("`up` recorded no spec")?;
    deployment.remove()?;
    let folder = deployment.folder().join("by-hand");
    fs::create_dir(&folder)?;
    let at = folder.display().to_string();
    sh(
        "tar",
        [
            "-C",
            &at,
            "-xf",
            &deployment
                .folder()
                .join("plain.tar.zst")
                .display()
                .to_string(),
        ],
    )?;
    let unpacked = folder.join("vm-export");
    let readme = fs::read_to_string(unpacked.join("README"))?;
    let commands: Vec<&str> = readme
        .lines()
        .filter(|line| {
            line.starts_with("cd ") || line.starts_with('(') || line.starts_with("virsh ")
        })
        .collect();
    let wanted = 6 + 2 * spec.domains.len();
    ensure!(
        commands.len() == wanted,
        "expected {wanted} commands in the README:\n{readme}"
    );
    let keys = folder.join("keys");
    fs::create_dir(&keys)?;
    for (file, key) in [
        ("authority", "ca.pem"),
        ("client", "client.pem"),
        ("ssh", "ssh"),
    ] {
        fs::rename(unpacked.join(format!("secret.{file}")), keys.join(key))?;
    }
    let identity = Identity::load(&keys)?.context("the archive has no keys")?;
    let (lab, _) = Lab::start_with(&pspd(), &folder.join("lab"))?;
    let inside = |script: &str| output(&mut lab.enter(["sh", "-exc", script])?);
    let up = inside(&format!(
        "mkdir -p /var/lib/libvirt/images\ncd {at}\n{}",
        commands.join("\n")
    ));
    let result = up.and_then(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let running =
            Lab::running(&folder.join("lab"))?.context("the second lab is not running")?;
        let (reach, never) = (Reach::Lab(running), CancellationToken::new());
        for name in spec.domains.keys() {
            let wait = health::serving(&reach, &spec, name, &identity, SERVING, &never);
            let healthy = runtime.block_on(wait);
            healthy.map_err(|health| anyhow::anyhow!("`{name}` is {health:?}"))?;
        }
        let web = SocketAddr::from((spec.domains[&Name::new("web-server")?].address, 8080));
        let read = inside(&format!("curl --silent --fail http://{web}{path}"))?;
        ensure!(read.contains(expected), "the web server returned {read}");
        Ok(())
    });
    lab.stop()?;
    result
}
