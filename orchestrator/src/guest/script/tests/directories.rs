//! Directories of releases, with the shell and the tar of this host.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::guest::release::ReleaseTree;
use crate::tree::{self, Kind};

/// What is at a path: the text of a file, a link's target, or nothing of both for a folder.
#[derive(Clone, Debug)]
enum Made {
    Folder,
    File(String, u32),
    Link(String),
}

fn any_tree() -> impl Strategy<Value = BTreeMap<String, Made>> {
    // Few names, so that files, folders and links take each other's places.
    let path = "[ab ](/[ab ]){0,3}";
    let made = prop_oneof![
        Just(Made::Folder),
        (
            "[xy]{0,2}",
            prop::sample::select(vec![0o644, 0o755, 0o600, 0o4700])
        )
            .prop_map(|(text, mode)| Made::File(text, mode)),
        "[ab](/[ab])?".prop_map(Made::Link),
    ];
    prop::collection::btree_map(path, made, 0..12)
}

/// Makes what fits: a path below a file or a link does not.
fn make(folder: &Path, tree: &BTreeMap<String, Made>) {
    fs::create_dir_all(folder).unwrap();
    for (path, made) in tree {
        let at = folder.join(path);
        let above = Path::new(path).ancestors().skip(1);
        let is_below = above.map(|path| folder.join(path)).any(|path| {
            let found = path.symlink_metadata();
            found.is_ok_and(|found| !found.is_dir())
        });
        if is_below {
            continue;
        }
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match made {
            Made::Folder => fs::create_dir_all(&at).unwrap(),
            Made::File(text, mode) => {
                fs::write(&at, text).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Made::Link(target) => symlink(target, &at).unwrap(),
        }
    }
}

/// A release with one directory, and the commands that prepare it.
fn with_tree(host: &Path, folder: &Path, setup: &[&str]) -> Release {
    let mut release = release(host, &[("web", "1", 0o755)]);
    let index = tree::read(folder, &CancellationToken::new()).unwrap();
    release.digest = Digest::of(format!("{}{setup:?}", index.digest).as_bytes());
    release.trees.push(ReleaseTree {
        path: "app/code".into(),
        folder: folder.to_owned(),
        index,
    });
    if !setup.is_empty() {
        let words = setup.iter().map(|word| (*word).to_owned()).collect();
        let text = unit::setup(&[words]);
        release.files.push(ReleaseFile {
            path: unit::SETUP.into(),
            mode: 0o755,
            digest: Digest::of(text.as_bytes()),
            content: Content::Text(text),
        });
        release.files.push(ReleaseFile {
            path: unit::ENVIRONMENT.into(),
            mode: 0o644,
            digest: Digest::of(b"A=\"b c\"\n"),
            content: Content::Text("A=\"b c\"\n".into()),
        });
    }
    release
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever changes in a directory, the guest has it as it is here, and only what changed was sent.
    #[test]
    fn a_directory_replaces_any_earlier_one(trees in prop::collection::vec(any_tree(), 1..4)) {
        let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
        let mut before: Option<tree::Index> = None;
        for (number, tree) in trees.iter().enumerate() {
            let folder = host.path().join(format!("tree-{number}"));
            make(&folder, tree);
            let release = with_tree(host.path(), &folder, &[]);
            let index = &release.trees[0].index;
            let report = guest.run(&inspect(&release), b"");
            for pack in guest.pack(&release, &report) {
                prop_assert_eq!(pack.base.as_ref(), before.as_ref().map(|before| &before.digest));
            }
            guest.push(&release);
            let arrived = guest.home().join("current/app/code");
            prop_assert_eq!(&tree::read(&arrived, &CancellationToken::new()).unwrap().entries, &index.entries);
            before = Some(index.clone());
        }
    }
}

fn entry<'a>(release: &'a Release, path: &str) -> Option<&'a Kind> {
    let mut entries = release.trees[0].index.entries.iter();
    entries
        .find(|entry| entry.path == path)
        .map(|entry| &entry.kind)
}

#[test]
fn unchanged_files_are_shared_and_trees_of_no_release_are_removed() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let folder = host.path().join("code");
    fs::create_dir_all(folder.join("lib")).unwrap();
    fs::write(folder.join("lib/same"), "same").unwrap();
    let of = |text: &str| {
        fs::write(folder.join("main"), text).unwrap();
        with_tree(host.path(), &folder, &[])
    };
    let trees = || fs::read_dir(guest.home().join("trees")).unwrap().count();
    let first = of("1");
    assert!(matches!(entry(&first, "lib/same"), Some(Kind::File { .. })));
    guest.activate(&first, None, false);
    let second = of("2");
    guest.activate(&second, Some(&first.digest), false);
    let inode = |release: &Release, path: &str| {
        let at = format!("releases/{}/app/code/{path}", release.digest);
        fs::metadata(guest.home().join(at)).unwrap().ino()
    };
    assert_eq!(inode(&first, "lib/same"), inode(&second, "lib/same"));
    assert_ne!(inode(&first, "main"), inode(&second, "main"));
    assert_eq!(trees(), 2);
    let third = of("3");
    guest.activate(&third, Some(&second.digest), false);
    assert_eq!(trees(), 2);
    // Back again: nothing of it is left in the guest but what the others share.
    let again = of("1");
    assert_eq!(again.digest, first.digest);
    guest.activate(&again, Some(&third.digest), false);
    let main = guest.home().join("current/app/code/main");
    assert_eq!(fs::read_to_string(main).unwrap(), "1");
    assert_eq!(trees(), 2);
}

#[test]
fn what_prepares_a_release_changes_no_other() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let folder = host.path().join("code");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("main"), "1").unwrap();
    let command = "echo \"$A\" >app/code/made; rm app/code/main; echo changed >app/code/main";
    let first = with_tree(host.path(), &folder, &["sh", "-c", command]);
    guest.activate(&first, None, false);
    let read = |path: &str| fs::read_to_string(guest.home().join(path)).unwrap();
    assert_eq!(read("current/app/code/made"), "b c\n");
    assert_eq!(read("current/app/code/main"), "changed\n");
    let second = with_tree(host.path(), &folder, &[]);
    let report = guest.run(&inspect(&second), b"");
    assert!(
        guest.pack(&second, &report).is_empty(),
        "nothing is sent again"
    );
    guest.activate(&second, Some(&first.digest), false);
    assert_eq!(read("current/app/code/main"), "1");
    assert!(!guest.home().join("current/app/code/made").exists());
}

#[test]
fn a_preparation_that_fails_or_hangs_leaves_no_complete_release() {
    let (guest, host) = (Guest::new(), tempfile::tempdir().unwrap());
    let folder = host.path().join("code");
    fs::create_dir(&folder).unwrap();
    let ending = |command: &str, limit: u64| {
        let release = with_tree(host.path(), &folder, &["sh", "-c", command]);
        let report = guest.run(&inspect(&release), b"");
        for pack in guest.pack(&release, &report) {
            if let Content::Host(from) = &pack.file.content {
                let content = fs::read(from).unwrap();
                guest.run(&receive(&release, &pack.file, Encoding::Plain), &content);
            }
            let packs = [(pack.tree.clone(), pack.base.clone())];
            guest.run(&fill(&release, &[], &packs), b"");
        }
        if !guest
            .home()
            .join(format!("releases/{}", release.digest))
            .exists()
        {
            guest.run(&fill(&release, &[], &[]), b"");
        }
        let output = guest.run(&prepare(&release, Duration::from_secs(limit)), b"");
        let report = guest.run(&inspect(&release), b"");
        assert!(!report.lines().any(|line| line == "complete"), "{report}");
        output
    };
    let failed = ending("echo out; echo err >&2; exit 3", 20);
    let expected = "$ sh -c echo out; echo err >&2; exit 3\nout\nerr\nexit 3\n";
    assert_eq!(failed, expected);
    let hung = ending("sleep 60", 1);
    assert!(hung.ends_with("exit 124\n"), "{hung}");
}
