//! Commands that only read leave the state directory exactly as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_model::spec::Digest;
use pspd_tests::deployment::Deployment;
use pspd_tests::wait::eventually;

/// Folders of a deployment that its running libvirtd and guests write to: only their names are compared.
const WRITTEN_BY_GUESTS: [&str; 4] = ["console", "disks", "lab", "volumes"];

/// Runs the first `up`, and commands that read while it is stopped in the middle: it writes nothing itself meanwhile.
pub(crate) fn first_up(deployment: &Deployment) -> anyhow::Result<()> {
    let mut up = deployment.spawn(&["up"])?;
    eventually("`up` to work", Duration::from_secs(300), || {
        let journal = fs::read_to_string(deployment.home().join("journal.jsonl"));
        ensure!(up.is_running()?, "`up` ended early");
        Ok(journal.is_ok_and(|journal| journal.lines().count() > 8))
    })?;
    up.signal("STOP")?;
    let beside = changes_nothing(deployment);
    up.signal("CONT")?;
    up.wait()?.expect(0)?;
    beside.context("beside a running `up`")
}

pub(crate) fn changes_nothing(deployment: &Deployment) -> anyhow::Result<()> {
    let commands: [&[&str]; 6] = [
        &["plan"],
        &["plan", "--json"],
        &["status"],
        &["status", "--json"],
        &["status", "--boot"],
        &["doctor"],
    ];
    for command in commands {
        let before = listing(&deployment.state())?;
        let ran = deployment.run(command)?;
        let code = ran.code();
        ensure!(
            matches!(code, Some(0 | 4)),
            "`pspd {}` ended with {code:?}:\n{}",
            command.join(" "),
            ran.stderr
        );
        let after = listing(&deployment.state())?;
        ensure!(
            before == after,
            "`pspd {}` changed files:\nbefore {before:#?}\nafter {after:#?}",
            command.join(" ")
        );
    }
    Ok(())
}

/// Every file and folder by its path, with mode and digest.
fn listing(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    if folder.exists() {
        list(folder, folder, &mut files)?;
    }
    Ok(files)
}

fn list(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(root)?.display().to_string();
        let mode = metadata.mode();
        let by_guests = path.components().any(|part| {
            WRITTEN_BY_GUESTS
                .iter()
                .any(|name| part.as_os_str() == *name)
        });
        if metadata.is_dir() {
            files.insert(name, format!("{mode:o}"));
            // What is in the lab comes and goes with its daemons.
            if path.file_name().is_none_or(|name| name != "lab") {
                list(root, &path, files)?;
            }
        } else if by_guests || !metadata.is_file() {
            files.insert(name, format!("{mode:o}"));
        } else {
            let digest = Digest::of(&fs::read(&path)?);
            files.insert(name, format!("{mode:o} {digest}"));
        }
    }
    Ok(())
}
