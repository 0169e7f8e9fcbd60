//! Invalid arguments and files for `pspd export` and `pspd import`, and recovery from a killed export without a lab.

#![allow(clippy::unwrap_used)] // clippy exempts tests, but not the functions that they share

mod crafted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pspd_model::spec::{Digest, Name, Spec};
use pspd_model::topology::{self, Found};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use pspd::event::Events;
use pspd::libvirt::Connection;
use pspd::state::{Home, Paths};
use pspd::{archive, disk};

/// A folder with a topology that was never deployed.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let topology = "name: demo\nimages: {debian: {path: disk, sha256: SHA}}\n\
            domains: {store: {image: debian, disks: {data: {size: 64 MiB, mount: /var/lib/store}}}}\n";
        let topology = topology.replace("SHA", Digest::of(b"").as_str());
        fs::write(folder.path().join("topology.yaml"), topology).unwrap();
        fs::write(folder.path().join("disk"), "").unwrap();
        Place(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn paths(&self) -> Paths {
        Paths {
            state: self.at("state"),
            cache: self.at("cache"),
        }
    }

    fn spec(&self) -> Spec {
        let text = fs::read_to_string(self.at("topology.yaml")).unwrap();
        topology::parse(&text, self.0.path(), &|_| Found::File).unwrap()
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pspd"))
            .args(["--state-dir", "state", "--cache-dir", "cache"])
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs `pspd`, which must fail and leave nothing; returns its error with the folder's path replaced.
    #[track_caller]
    fn refused(&self, arguments: &str) -> String {
        let before = self.names();
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(self.names(), before, "files are left after: {said}");
        let errors = said.lines().skip_while(|line| !line.starts_with("error"));
        let errors: Vec<&str> = errors.collect();
        errors
            .join("\n")
            .replace(self.0.path().to_str().unwrap(), "FOLDER")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn an_impossible_export_is_refused_at_once() {
    let place = Place::new();
    fs::write(place.at("there.tar.xz"), "mine").unwrap();
    fs::create_dir(place.at("folder.tar.xz")).unwrap();
    insta::assert_snapshot!(place.refused("export a.zip"), @"error: the name `a.zip` has no known ending. Use .tar.xz (small), .tar.zst (fast), .tar.gz or .tar");
    insta::assert_snapshot!(place.refused("export there.tar.xz"), @"error: `there.tar.xz` already exists. Pass --force to replace it");
    insta::assert_snapshot!(place.refused("export --force folder.tar.xz"), @"error: `folder.tar.xz` is a folder. Name a file");
    insta::assert_snapshot!(place.refused("export missing/a.tar.xz"), @"error: the folder `FOLDER/missing` of `missing/a.tar.xz` does not exist. Create it first");
    insta::assert_snapshot!(place.refused("export a.tar.xz"), @"error: deployment `demo` does not exist on this host; nothing to export");
    insta::assert_snapshot!(place.refused("--deployment other export a.tar.xz"), @"error: deployment `other` does not exist on this host (no record in `FOLDER/state`)");
    assert_eq!(
        fs::read_to_string(place.at("there.tar.xz")).unwrap(),
        "mine"
    );
}

#[test]
fn a_file_that_is_not_an_archive_is_refused_with_the_reason() {
    let place = Place::new();
    fs::write(place.at("words.tar.xz"), "no archive at all").unwrap();
    fs::write(place.at("empty.tar.zst"), "").unwrap();
    fs::write(place.at("cut.tar.xz"), b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46").unwrap();
    fs::write(place.at("newer.tar"), newer()).unwrap();
    insta::assert_snapshot!(place.refused("import missing.tar.xz"), @"
    error: failed to open `missing.tar.xz`
      caused by: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(place.refused("import disk/x"), @"
    error: failed to open `disk/x`
      caused by: Not a directory (os error 20)
    ");
    insta::assert_snapshot!(place.refused("import words.tar.xz"), @"
    error: `words.tar.xz` cannot be imported
      caused by: it does not begin with `vm-export/manifest.json.sha256`
      caused by: the archive is truncated
    ");
    insta::assert_snapshot!(place.refused("import empty.tar.zst"), @"
    error: `empty.tar.zst` cannot be imported
      caused by: it does not begin with `vm-export/manifest.json.sha256`
      caused by: the archive is truncated
    ");
    insta::assert_snapshot!(place.refused("import cut.tar.xz"), @"
    error: `cut.tar.xz` cannot be imported
      caused by: it does not begin with `vm-export/manifest.json.sha256`
      caused by: the archive is truncated
    ");
    insta::assert_snapshot!(place.refused("import newer.tar"), @"
    error: `newer.tar` cannot be imported
      caused by: the archive has format 9, made by pspd 9.0.0, and this pspd reads formats up to 2. Use a newer pspd
    ");
    insta::assert_snapshot!(place.refused("export --verify newer.tar"), @"
    error: `newer.tar` cannot be imported
      caused by: the archive has format 9, made by pspd 9.0.0, and this pspd reads formats up to 2. Use a newer pspd
    ");
    insta::assert_snapshot!(place.refused("import newer.tar --name No_Name"), @"error: `No_Name` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, with no - at either end");
}

/// An archive in a future format.
fn newer() -> Vec<u8> {
    let manifest = br#"{"format": 9, "made_by": "pspd 9.0.0", "disks": "otherwise"}"#;
    crafted::tar(manifest, &[])
}

/// What other machines reach, or what others know, is imported only if a person wants it.
#[test]
fn an_import_that_reaches_further_asks_first() {
    let place = Place::new();
    let image = place.at("image.qcow2");
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(&image), "64M"],
    );
    let image = fs::read(image).unwrap();
    let content = json!({"kind": "image", "virtual_size": 64 << 20});
    let images = json!({"base": {"path": "base.qcow2", "sha256": Digest::of(&image), "seed": "credentials"}});
    let domains = json!({"web": {"image": "base", "publish": ["0.0.0.0:18022:22"]}});
    let manifest = json!({
        "format": 1,
        "made_by": "test",
        "spec": {"name": "demo", "images": images, "domains": domains},
        "files": [crafted::file("base.qcow2", &image, content)],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let archive = crafted::tar(&manifest, &[("base.qcow2", &image)]);
    fs::write(place.at("open.tar"), archive).unwrap();
    insta::assert_snapshot!(place.refused("import open.tar --no-up"), @"error: nothing was imported. Pass --yes to import it");
    let output = place.run("import open.tar --no-up --yes");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let warning = "warning: other machines can reach `web` on 0.0.0.0:18022";
    assert!(said.contains(warning), "{said}");
    assert!(place.at("demo/topology.yaml").exists());
}

/// The lab and its definitions are gone; the guests' last writes are in overlays that no process has open.
#[test]
fn overlays_are_merged_without_a_domain() {
    let place = Place::new();
    let spec = place.spec();
    let home = place.paths().deployment(&spec.name);
    home.create().unwrap();
    let store = Name::new("store").unwrap();
    let disks = [home.disk(&store), home.volumes().join("store.data.qcow2")];
    for disk in &disks {
        interrupted(disk);
    }
    let left = disk::domains_with_overlays(&home, &spec).unwrap();
    assert_eq!(left, std::slice::from_ref(&store));
    merge(&home, &spec, &store);
    for disk in &disks {
        tool(
            "qemu-io",
            &["-f", "qcow2", "-c", "read -P 7 1M 64k", text(disk)],
        );
        tool(
            "qemu-io",
            &["-f", "qcow2", "-c", "read -P 5 0 64k", text(disk)],
        );
    }
    assert_eq!(disk::domains_with_overlays(&home, &spec).unwrap(), []);
    merge(&home, &spec, &store);
}

/// A disk with data from before the freeze, and its overlay with data from after it.
fn interrupted(disk: &Path) {
    let overlay = format!("{}.snapshot", text(disk));
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(disk), "64M"],
    );
    tool(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 5 0 64k", text(disk)],
    );
    let over = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    tool("qemu-img", &[&over[..], &[text(disk), &overlay]].concat());
    tool(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 7 1M 64k", &overlay],
    );
}

fn merge(home: &Home, spec: &Spec, name: &Name) {
    let connection = Connection::open("test:///default").unwrap();
    let (events, _receiver) = Events::channel();
    let (scope, cancel) = (events.scope("merge", None), CancellationToken::new());
    archive::merge(&connection, home, spec, name, &scope, &cancel).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && !said.contains("failed"),
        "{program} {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
