mod directories;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::disk::release::{ReleaseDisk, ensure};
use crate::guest::packs::{Packed, lacking, pack};
use crate::tree::Index;

/// A systemd with one service: it is active where there is a file `active`, and its restarts are counted.
const SYSTEMCTL: &str = r#"
cd "${0%/*}/.."
case "$1" in
    is-active) [ -e active ] ;;
    restart) touch active; echo restart >>restarts ;;
    stop) rm -f active ;;
esac"#;

/// A guest's `/opt/pspd` in a folder, with stand-ins for what changes the machine.
struct Guest(TempDir);

impl Guest {
    fn new() -> Guest {
        let guest = Guest(tempfile::tempdir().unwrap());
        let bin = guest.0.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir_all(guest.0.path().join("etc/systemd/system")).unwrap();
        for (name, script) in [
            ("getent", "exit 2"),
            ("systemd-sysusers", "cat >/dev/null"),
            ("chown", "test -e \"$2\""),
            ("chgrp", "test -e \"$3\""),
            ("setpriv", "for last; do :; done; exec \"$last\""),
            ("systemctl", SYSTEMCTL),
        ] {
            write_program(&bin.join(name), script);
        }
        guest
    }

    fn home(&self) -> std::path::PathBuf {
        self.0.path().join("opt/web")
    }

    /// Runs a script that must succeed and returns its output.
    fn run(&self, script: &str, input: &[u8]) -> String {
        let output = self.output(script, input);
        assert!(output.status.success(), "{script}\n{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn output(&self, script: &str, input: &[u8]) -> Output {
        let (root, path) = (self.0.path().display(), std::env::var("PATH").unwrap());
        let script = script
            .replace("/opt/pspd", &format!("{root}/opt"))
            .replace("/run/pspd-", &format!("{root}/run/pspd-"))
            .replace("/etc/systemd", &format!("{root}/etc/systemd"))
            .replace("/sys/block", &format!("{root}/sys/block"))
            .replace("device=/dev/", &format!("device={root}/dev/"));
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .env("PATH", format!("{root}/bin:{path}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that fails does not read all of it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Pushes a release and makes it the current one; returns the paths of what was transferred.
    fn push(&self, release: &Release) -> Vec<String> {
        let sent = self.transfer(release);
        let current = self.home().join("current");
        let _ = fs::remove_file(&current);
        symlink(format!("releases/{}", release.digest), &current).unwrap();
        sent
    }

    /// Pushes and activates a release; returns what that says.
    fn activate(&self, release: &Release, healthy: Option<&Digest>, restart: bool) -> String {
        self.transfer(release);
        let output = self.run(&activate(release, healthy, restart), b"");
        output.lines().last().unwrap_or_default().to_owned()
    }

    fn transfer(&self, release: &Release) -> Vec<String> {
        let report = self.run(&inspect(release), b"");
        if report.lines().any(|line| line == "complete") {
            return Vec::new();
        }
        let has = |file: &&ReleaseFile| {
            let line = format!("have {}", file.path.display());
            matches!(file.content, Content::Host(_)) && report.lines().any(|one| one == line)
        };
        let have: Vec<&ReleaseFile> = release.files.iter().filter(has).collect();
        let mut sent = Vec::new();
        let packs = self.pack(release, &report);
        for file in packs.iter().map(|pack| &pack.file).chain(&release.files) {
            if let Content::Host(from) = &file.content
                && !have.iter().any(|other| other.path == file.path)
            {
                let content = zstd::encode_all(&*fs::read(from).unwrap(), 0).unwrap();
                self.run(&receive(release, file, Encoding::Zstd), &content);
                sent.push(file.path.display().to_string());
            }
        }
        let packs: Vec<_> = packs
            .iter()
            .map(|pack| (pack.tree.clone(), pack.base.clone()))
            .collect();
        self.run(&fill(release, &have, &packs), b"");
        if release.has_setup() {
            let output = self.run(&prepare(release, Duration::from_secs(20)), b"");
            assert!(output.ends_with("exit 0\n"), "{output}");
        }
        self.run(&complete(release), b"");
        sent
    }

    /// Packs what the guest lacks of the release's directories.
    fn pack(&self, release: &Release, report: &str) -> Vec<Packed> {
        let packed = lacking(release, report, |tree, base| {
            let index = base.map(|base| {
                let text = self.run(&trees::index(&release.service, base), b"");
                Index::parse(&text).unwrap()
            });
            let cancel = CancellationToken::new();
            pack(release, tree, index.as_ref(), self.0.path(), &cancel)
        });
        packed.unwrap()
    }
}

/// Writes a script by another process: a child that a test beside this one starts meanwhile would have the file open for
/// writing, and so keep it from being run.
fn write_program(path: &Path, script: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
    let mut command = Command::new("sh");
    let status = command.args(["-c", write]).arg(path).arg(script).status();
    assert!(status.unwrap().success());
}

fn release(folder: &Path, files: &[(&str, &str, u32)]) -> Release {
    let file = |(path, text, mode): &(&str, &str, u32)| {
        let from = folder.join(Digest::of(text.as_bytes()).short());
        fs::write(&from, text).unwrap();
        ReleaseFile {
            path: path.into(),
            mode: *mode,
            digest: Digest::of(text.as_bytes()),
            content: Content::Host(from),
        }
    };
    Release {
        service: Name::new("web").unwrap(),
        needs: Vec::new(),
        digest: Digest::of(format!("{files:?}").as_bytes()),
        files: files.iter().map(file).collect(),
        trees: Vec::new(),
        certificate: Certificate {
            ca: String::new(),
            certificate: String::new(),
            key: String::new(),
        },
    }
}

#[test]
fn files_in_folders_stay_from_release_to_release() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let of = |version, mode| {
        let files = [
            ("web", version, 0o755),
            ("data/deep/x", "unchanged", mode),
            // Where `data/deep/x` could be written before it gets its name.
            ("data/deep/x.new", "another", 0o640),
        ];
        release(host.path(), &files)
    };
    let all = ["web", "data/deep/x", "data/deep/x.new"];
    assert_eq!(guest.push(&of("1", 0o644)), all);
    assert_eq!(guest.push(&of("2", 0o644)), ["web"]);
    // Another mode is another file: the release before keeps its own.
    assert_eq!(guest.push(&of("2", 0o700)), ["data/deep/x"]);
    let current = guest.home().join("current");
    let mode = |path: &str| {
        let file = fs::metadata(current.join(path)).unwrap();
        file.permissions().mode() & 0o7777
    };
    assert_eq!(fs::read(current.join("data/deep/x")).unwrap(), b"unchanged");
    assert_eq!(
        fs::read(current.join("data/deep/x.new")).unwrap(),
        b"another"
    );
    assert_eq!([mode("data"), mode("data/deep")], [0o755, 0o755]);
    assert_eq!(
        [mode("data/deep/x"), mode("data/deep/x.new")],
        [0o700, 0o640]
    );
}

/// They come from the topology, and the script runs as root.
#[test]
fn programs_of_any_name_are_looked_for_and_not_run() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let mut release = release(host.path(), &[("web", "1", 0o755)]);
    let mark = guest.0.path().join("run-by-root");
    let programs = [
        "sh".to_owned(),
        "it's".to_owned(),
        format!("x'; touch {}; '", mark.display()),
        format!("$(touch {})", mark.display()),
        r"a\nb".to_owned(),
    ];
    release.needs = programs.to_vec();
    let report = guest.run(&inspect(&release), b"");
    let lacks: Vec<_> = report
        .lines()
        .filter_map(|line| line.strip_prefix("lacks "))
        .collect();
    assert_eq!(lacks, programs[1..]);
    assert!(!mark.exists());
}

#[test]
fn releases_that_nothing_needs_are_removed() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let of = |version| release(host.path(), &[("web", version, 0o755)]);
    let releases = || {
        let entries = fs::read_dir(guest.home().join("releases")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let sorted = |releases: &[&Release]| {
        let mut names: Vec<String> = releases.iter().map(|one| one.digest.to_string()).collect();
        names.sort();
        names
    };
    let (first, second, third) = (of("1"), of("2"), of("3"));
    guest.push(&first);
    let link = format!("releases/{}", first.digest);
    symlink(link, guest.home().join("previous")).unwrap();
    guest.push(&second);
    // An interrupted transfer of a release that is no longer wanted.
    fs::create_dir(guest.home().join("releases").join("unfinished")).unwrap();
    guest.push(&third);
    assert_eq!(releases(), sorted(&[&first, &second, &third]));
    guest.push(&third);
    assert_eq!(releases(), sorted(&[&first, &third]));
}

#[test]
fn a_service_that_hangs_is_restarted_with_its_release() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let first = release(host.path(), &[("web", "1", 0o755)]);
    assert_eq!(guest.activate(&first, None, false), "restarted");
    let healthy = Some(&first.digest);
    assert_eq!(guest.activate(&first, healthy, false), "unchanged");
    assert_eq!(guest.activate(&first, healthy, true), "restarted");
    let restarts = fs::read_to_string(guest.0.path().join("restarts")).unwrap();
    assert_eq!(restarts.lines().count(), 2);
}

/// The release after it may not log keys, and systemd would keep the file.
#[test]
fn a_key_log_ends_with_its_release() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let of = |version| release(host.path(), &[("web", version, 0o755)]);
    guest.activate(&of("1"), None, false);
    let folder = guest.0.path().join("run/pspd-web");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("tls-keys.log"), "").unwrap();
    guest.activate(&of("1"), None, false);
    assert!(folder.exists());
    guest.activate(&of("2"), None, false);
    assert!(!folder.exists());
}

#[test]
fn only_a_release_that_was_healthy_is_rolled_back_to() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let of = |version| release(host.path(), &[("web", version, 0o755)]);
    let (first, second, third) = (of("1"), of("2"), of("3"));
    let back = |to: &Release| format!("back {}", to.digest);
    let roll_back = || {
        let output = guest.run(&roll_back(&first.service), b"");
        output.lines().last().unwrap_or_default().to_owned()
    };
    guest.activate(&first, None, false);
    // The second one runs, but `up` was killed before it was healthy.
    guest.activate(&second, Some(&first.digest), false);
    guest.activate(&third, Some(&first.digest), false);
    assert_eq!(roll_back(), back(&first));
    guest.activate(&second, None, false);
    assert_eq!(roll_back(), "none");
}

#[test]
fn a_guest_without_zstd_gets_files_as_they_are() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let release = release(host.path(), &[("it's a file", "content", 0o755)]);
    guest.run(
        &receive(&release, &release.files[0], Encoding::Plain),
        b"content",
    );
    let file = format!("releases/{}/it's a file", release.digest);
    assert_eq!(fs::read(guest.home().join(file)).unwrap(), b"content");
}

#[test]
fn nothing_stays_of_a_file_that_did_not_arrive() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let elsewhere = guest.0.path().join("elsewhere file");
    let elsewhere = elsewhere.display().to_string();
    let files = [("web", "1", 0o755), (&*elsewhere, "2", 0o644)];
    let release = release(host.path(), &files);
    for file in &release.files {
        for (encoding, bytes) in [(Encoding::Plain, b"other"), (Encoding::Zstd, b"crash")] {
            let script = receive(&release, file, encoding);
            assert!(!guest.output(&script, bytes).status.success());
        }
    }
    let folder = guest.home().join(format!("releases/{}", release.digest));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    assert!(!fs::exists(format!("{elsewhere}@new")).unwrap());
    guest.run(&discard(&release), b"");
    assert!(!folder.exists());
}

#[test]
fn what_a_killed_transfer_left_makes_room_for_the_next_one() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let elsewhere = guest.0.path().join("elsewhere");
    let elsewhere = elsewhere.display().to_string();
    let files = [("web", "1", 0o755), (&*elsewhere, "2", 0o644)];
    let release = release(host.path(), &files);
    let folder = guest.home().join(format!("releases/{}", release.digest));
    fs::create_dir_all(&folder).unwrap();
    let left = [folder.join("web@new"), format!("{elsewhere}@new").into()];
    for path in &left {
        fs::write(path, "a part").unwrap();
    }
    let report = guest.run(&inspect(&release), b"");
    assert!(report.lines().any(|line| line.starts_with("free ")));
    assert_eq!(left.map(|path| path.exists()), [false, false]);
}

#[test]
fn only_the_release_in_use_stays_where_room_is_short() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let of = |version| release(host.path(), &[("web", version, 0o755)]);
    let (first, second) = (of("1"), of("2"));
    guest.activate(&first, None, false);
    guest.activate(&second, Some(&first.digest), false);
    let exists = |release: &Release| {
        let folder = format!("releases/{}", release.digest);
        guest.home().join(folder).exists()
    };
    assert_eq!([exists(&first), exists(&second)], [true, true]);
    guest.run(&make_room(&first), b"");
    assert_eq!([exists(&first), exists(&second)], [false, true]);
    // No release is before it now.
    guest.run(&make_room(&first), b"");
    assert!(exists(&second));
}

/// Adds a disk with a serial number to a guest.
fn add_disk(guest: &Guest, device: &str, serial: &str) -> std::path::PathBuf {
    let block = guest.0.path().join("sys/block").join(device);
    fs::create_dir_all(&block).unwrap();
    // Without an end of line, as the kernel has it.
    fs::write(block.join("serial"), serial).unwrap();
    fs::create_dir_all(guest.0.path().join("dev")).unwrap();
    guest.0.path().join("dev").join(device)
}

/// Writes the files of a release to a disk.
fn write_disk<'a>(release: &'a Release, path: &Path) -> Vec<(&'a ReleaseFile, Extent)> {
    ensure(path).unwrap();
    let mut disk = ReleaseDisk::open(path).unwrap();
    let extent = |file: &ReleaseFile| match &file.content {
        Content::Host(from) => disk.write(from).unwrap(),
        Content::Text(_) => unreachable!("all files are of the host"),
    };
    let extents: Vec<Extent> = release.files.iter().map(extent).collect();
    release.files.iter().zip(extents).collect()
}

#[test]
fn files_arrive_from_a_disk() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let long = |length: usize| -> String { ('a'..='z').cycle().take(length).collect() };
    // The last one is longer than what is read at a time.
    let texts = [0, 1, 511, 512, 513, 4096, 4097, 3_000_001].map(long);
    let names = [
        "web",
        "one",
        "it's a file",
        "data/deep/x",
        "e",
        "f",
        "g",
        "h",
    ];
    let files: Vec<_> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (*name, text.as_str(), 0o750))
        .collect();
    let release = release(host.path(), &files);
    let without = guest.run(&inspect(&release), b"");
    assert!(!without.contains("release-disk"), "{without}");
    add_disk(&guest, "vda", "system");
    let disk = add_disk(&guest, "vdb", RELEASE_DISK);
    add_disk(&guest, "vdc", "pspd-release-2");
    fs::create_dir(guest.0.path().join("sys/block/loop0")).unwrap();
    let report = guest.run(&inspect(&release), b"");
    let seen = report
        .lines()
        .filter(|line| line.starts_with("release-disk "));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [format!("release-disk {}", disk.display())]
    );
    let written = write_disk(&release, &disk);
    let script = read_disk(
        &release,
        &written,
        &(fill(&release, &[], &[]) + &complete(&release)),
    );
    assert_eq!(guest.run(&script, b""), "");
    let folder = guest.home().join(format!("releases/{}", release.digest));
    for (name, text) in names.iter().zip(&texts) {
        let path = folder.join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), *text, "{name}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750, "{name}");
    }
    assert!(guest.run(&inspect(&release), b"").contains("complete\n"));
}

#[test]
fn a_disk_that_a_guest_cannot_use_is_refused_and_nothing_stays() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let release = release(host.path(), &[("web", "1", 0o755)]);
    let folder = guest.home().join(format!("releases/{}", release.digest));
    let file = host.path().join("disk");
    let written = write_disk(&release, &file);
    let script = read_disk(&release, &written, "echo completed");
    let refused = |reason: &str| {
        let report = guest.run(&script, b"");
        assert!(report.starts_with("refused "), "{report}");
        assert!(report.contains(reason), "{report}");
        assert!(!report.contains("completed"), "{report}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    };
    refused("dd: ");
    // Such as one that took the file's place while QEMU has the old one open.
    let disk = add_disk(&guest, "vdb", RELEASE_DISK);
    ensure(&disk).unwrap();
    refused("a digest differs");
    let bin = guest.0.path().join("bin/dd");
    write_program(&bin, "echo 'dd: unknown flag' >&2\nexit 1");
    refused("dd: unknown flag");
    fs::remove_file(&bin).unwrap();
    fs::rename(&file, &disk).unwrap();
    assert_eq!(guest.run(&script, b""), "completed\n");
}
