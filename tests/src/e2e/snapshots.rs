//! Snapshots of a whole deployment: what was written before, between and after them; branches, damage, and killed runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::sh;
use pspd_tests::scenario::{Scenario, minutes, say};
use serde_json::Value;

use super::interruptions::reaches;
use super::power::damage;
use super::{clock, clones};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "snapshots rewind memory and disks",
    minutes(40),
    snapshots,
)];

fn snapshots() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.run(&["up"])?.expect(0)?;
    say("forth and back");
    mark(&deployment, "one")?;
    deployment.ssh(
        "store",
        "sh -c 'sleep 10000 >/dev/null 2>&1 & echo $! >/run/kept'",
    )?;
    let saved = deployment
        .run(&["snapshot", "save", "one", "--note", "the first"])?
        .expect(0)?;
    saved.says("saved the snapshot `one`; the guests were paused for ")?;
    deployment.ssh("store", "kill $(cat /run/kept)")?;
    mark(&deployment, "two")?;
    deployment.run(&["snapshot", "save", "two"])?.expect(0)?;
    let restored = deployment.run(&["snapshot", "restore", "one"])?.expect(0)?;
    let restored = restored.says("saved the previous state as the snapshot `before-1`")?;
    ensure!(
        !restored.stderr.contains("push the release"),
        "{}",
        restored.stderr
    );
    expect_marks(&deployment, "one")?;
    deployment.ssh("store", "kill -0 $(cat /run/kept)")?;
    clock::follows(&deployment, "store")?;
    deployment.run(&["plan"])?.expect(0)?;

    say("branches");
    mark(&deployment, "three")?;
    deployment.run(&["snapshot", "save", "three"])?.expect(0)?;
    expect_tree(
        &deployment,
        &[
            ("before-1", Some("two")),
            ("one", None),
            ("three", Some("one")),
            ("two", Some("one")),
        ],
    )?;
    for (snapshot, marks) in [("two", "two"), ("before-1", "two"), ("three", "three")] {
        restore(&deployment, snapshot)?;
        expect_marks(&deployment, marks)?;
    }
    say("layers are merged while the domain runs");
    merged_live(&deployment)?;
    say("what others need of a removed snapshot stays");
    deployment
        .run(&["snapshot", "rm", "one", "before-1"])?
        .expect(0)?;
    expect_marks(&deployment, "three")?;
    expect_tree(&deployment, &[("three", None), ("two", None)])?;
    restore(&deployment, "two")?;
    expect_marks(&deployment, "two")?;

    say("an export has all layers");
    exported(&deployment)?;
    say("down and back");
    deployment.run(&["down"])?.expect(0)?;
    deployment
        .run(&["down", "--volumes"])?
        .expect(1)?
        .says("has 2 snapshots")?;
    deployment.run(&["snapshot", "restore", "two"])?.expect(0)?;
    expect_marks(&deployment, "two")?;
    // After `down`, only the data volume was left.
    restore(&deployment, "before-1")?;
    let state = &deployment.status()?["domains"][0]["state"];
    ensure!(state == "shut off", "{state}");
    restore(&deployment, "two")?;
    deployment.run(&["snapshot", "rm", "before-1"])?.expect(0)?;
    say("wrong input");
    wrong(&deployment)?;
    say("killed runs");
    killed(&deployment)?;
    say("damaged memory");
    damaged(&deployment)?;
    say("a clone");
    clones::cloned(&deployment)?;
    deployment.remove()
}

/// Writes to the system disk, to the data volume and to memory.
fn mark(deployment: &Deployment, text: &str) -> anyhow::Result<()> {
    let script = format!("for file in {MARKS}; do echo {text} > $file; done; sync");
    deployment.ssh("store", &script).map(drop)
}

const MARKS: &str = "/root/mark /var/lib/store/mark /dev/shm/mark";

/// What is marked on the system disk, on the data volume and in memory.
fn marks(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    let script = format!("for file in {MARKS}; do cat $file 2>/dev/null || echo none; done");
    let marks = deployment.ssh("store", &script)?;
    Ok(marks.lines().map(str::to_owned).collect())
}

fn expect_marks(deployment: &Deployment, text: &str) -> anyhow::Result<()> {
    let seen = marks(deployment)?;
    ensure!(
        seen == [text, text, text],
        "expected `{text}` everywhere, saw {seen:?}"
    );
    Ok(())
}

fn restore(deployment: &Deployment, snapshot: &str) -> anyhow::Result<()> {
    let command = ["snapshot", "restore", snapshot, "--discard"];
    deployment.run(&command)?.expect(0)?;
    deployment.run(&["plan"])?.expect(0).map(drop)
}

fn tree(deployment: &Deployment) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let list = deployment
        .run(&["snapshot", "list", "--json"])?
        .expect(0)?
        .json()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let rows = list.as_array().context("the list is not an array")?.iter();
    rows.map(|row| Ok((text(&row["name"]).context("no name")?, text(&row["parent"]))))
        .collect()
}

fn expect_tree(deployment: &Deployment, expected: &[(&str, Option<&str>)]) -> anyhow::Result<()> {
    let seen = tree(deployment)?;
    let rows = seen
        .iter()
        .map(|(name, parent)| (name.as_str(), parent.as_deref()));
    let rows: Vec<_> = rows.collect();
    ensure!(rows == expected, "expected {expected:?}, saw {rows:?}");
    Ok(())
}

/// The layers of a snapshot that is removed go, also in the middle of a chain that a process reads, and the snapshots around
/// it have what they had.
fn merged_live(deployment: &Deployment) -> anyhow::Result<()> {
    let layers = || -> anyhow::Result<usize> {
        let folders = ["disks/layers", "volumes/layers"];
        let counts =
            folders.map(|folder| Ok(fs::read_dir(deployment.home().join(folder))?.count()));
        counts.into_iter().sum()
    };
    let before = layers()?;
    for name in ["low", "middle", "high"] {
        mark(deployment, name)?;
        deployment.run(&["snapshot", "save", name])?.expect(0)?;
    }
    mark(deployment, "now")?;
    ensure!(layers()? == before + 6, "{} layers", layers()?);
    deployment.run(&["snapshot", "rm", "middle"])?.expect(0)?;
    ensure!(layers()? == before + 4, "{} layers", layers()?);
    expect_marks(deployment, "now")?;
    deployment.run(&["plan"])?.expect(0)?;
    for name in ["low", "high", "low"] {
        restore(deployment, name)?;
        expect_marks(deployment, name)?;
    }
    deployment
        .run(&["snapshot", "rm", "low", "high"])?
        .expect(0)?;
    restore(deployment, "three")
}

/// What a person unpacks is what the domain had: when it was saved, and now.
fn exported(deployment: &Deployment) -> anyhow::Result<()> {
    let record = deployment.home().join("snapshots/two/snapshot.json");
    let record: Value = serde_json::from_slice(&fs::read(record)?)?;
    let layer = |folder: &str, serial: &str| -> anyhow::Result<String> {
        let file = record["domains"]["store"]["disks"][serial].as_str();
        Ok(format!("{folder}/layers/{}", file.context("no layer")?))
    };
    mark(deployment, "later")?;
    let packed = packed(deployment, &["--snapshot", "two"])?;
    expect_marks(deployment, "later")?;
    same(
        deployment,
        &packed,
        [&layer("disks", "system")?, &layer("volumes", "data")?],
    )?;
    deployment.run(&["stop"])?.expect(0)?;
    let packed = self::packed(deployment, &[])?;
    same(
        deployment,
        &packed,
        ["disks/store.qcow2", "volumes/store.data.qcow2"],
    )?;
    deployment.run(&["start"])?.expect(0).map(drop)
}

/// Exports, unpacks, and returns the folder.
fn packed(deployment: &Deployment, options: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = tempfile::tempdir_in(deployment.folder())?.keep();
    let archive = folder.join("snapshots.tar").display().to_string();
    let command = [&["export", "--with-secrets", &archive], options].concat();
    deployment.run(&command)?.expect(0)?;
    sh(
        "tar",
        ["-C", &folder.display().to_string(), "-xf", &archive],
    )?;
    Ok(folder.join("vm-export"))
}

/// Fails unless the packed system disk and data volume have what these files of the deployment have.
fn same(deployment: &Deployment, packed: &Path, disks: [&str; 2]) -> anyhow::Result<()> {
    for (file, disk) in ["store.qcow2", "store.data.qcow2"].iter().zip(disks) {
        let (one, other) = (packed.join(file), deployment.home().join(disk));
        let text = |path: &Path| path.display().to_string();
        // A running domain has the layers open.
        sh("qemu-img", ["compare", "-U", &text(&one), &text(&other)])?;
    }
    Ok(())
}

fn wrong(deployment: &Deployment) -> anyhow::Result<()> {
    for (command, code, says) in [
        (vec!["save", "two"], 1, "the snapshot `two` already exists"),
        (vec!["save", "Two"], 2, "is not a DNS label"),
        (
            vec!["restore", "four"],
            1,
            "the snapshot `four` does not exist. Snapshots: ",
        ),
        (
            vec!["rm", "two", "four"],
            1,
            "the snapshot `four` does not exist",
        ),
        (
            vec!["show", "four"],
            1,
            "the snapshot `four` does not exist",
        ),
    ] {
        let command = [vec!["snapshot"], command].concat();
        deployment.run(&command)?.expect(code)?.says(says)?;
    }
    deployment
        .run(&["fault", "link", "store", "--down"])?
        .expect(0)?;
    deployment
        .run(&["snapshot", "save", "faulty"])?
        .expect(1)?
        .says("Run `pspd heal` first")?;
    deployment.run(&["heal"])?.expect(0)?;
    deployment.run(&["snapshot", "diff", "two"])?.expect(0)?;
    deployment
        .run(&["snapshot", "show", "two"])?
        .expect(0)
        .map(drop)
}

/// Wherever a run is killed, `up` converges, and every snapshot that the list has can be restored.
fn killed(deployment: &Deployment) -> anyhow::Result<()> {
    let mut kills = 0;
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for name in tree(deployment)?.into_keys() {
        expected.insert(name.clone(), name);
    }
    for position in [2, 4, 6, 8, 10, 12] {
        let name = format!("save-{position}");
        mark(deployment, &name)?;
        expected.insert(name.clone(), name.clone());
        kills += kill(deployment, &["snapshot", "save", &name], position)?;
        expect_marks(deployment, &name)?;
    }
    for position in [2, 3, 4, 5, 7, 9] {
        let before = format!("before-{position}");
        mark(deployment, &before)?;
        let command = ["snapshot", "restore", "two", "--discard"];
        kills += kill(deployment, &command, position)?;
        let seen = marks(deployment)?;
        // A domain that was forced off boots from its disks.
        let whole = seen[0] == seen[1] && (seen[2] == seen[0] || seen[2] == "none");
        ensure!(
            whole && (seen[0] == before || seen[0] == "two"),
            "killed at {position}, the guest has {seen:?}"
        );
    }
    for (position, name) in [(1, "save-12"), (2, "save-10")] {
        kills += kill(deployment, &["snapshot", "rm", name], position)?;
    }
    say(&format!("{kills} runs were killed before their end"));
    ensure!(kills >= 8, "only {kills} runs were killed");
    for name in tree(deployment)?.into_keys() {
        restore(deployment, &name)?;
        expect_marks(deployment, &expected[&name])?;
    }
    Ok(())
}

/// Kills a command when its journal has that many lines, unless it has ended; returns how many were killed.
fn kill(deployment: &Deployment, command: &[&str], position: usize) -> anyhow::Result<usize> {
    fs::remove_file(deployment.home().join("journal.jsonl"))?;
    let mut run = deployment.spawn(command)?;
    let alive = reaches(deployment, &mut run, position)?;
    if alive {
        run.signal("KILL")?;
    }
    run.wait()?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    Ok(usize::from(alive))
}

/// A damaged snapshot is refused by name and digest, and the system stays as it was; its disks can be restored.
fn damaged(deployment: &Deployment) -> anyhow::Result<()> {
    mark(deployment, "last")?;
    deployment.run(&["snapshot", "save", "last"])?.expect(0)?;
    mark(deployment, "now")?;
    damage(&deployment.home().join("snapshots/last/store.mem"))?;
    let refused = deployment
        .run(&["snapshot", "restore", "last"])?
        .expect(1)?;
    refused.says("the memory of `store` in the snapshot `last` is damaged")?;
    expect_marks(deployment, "now")?;
    deployment
        .run(&["snapshot", "restore", "last", "--disk-only"])?
        .expect(0)?;
    let seen = marks(deployment)?;
    ensure!(seen == ["last", "last", "none"], "{seen:?}");
    deployment.run(&["plan"])?.expect(0).map(drop)
}
