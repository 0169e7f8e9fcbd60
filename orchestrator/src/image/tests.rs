//! The cache as its callers see it: recipes that are shell scripts, images that are files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::*;

fn recipe(folder: &Path, script: &str) -> ImageSpec {
    let recipe = folder.join("recipe");
    fs::create_dir_all(&recipe).unwrap();
    let path = recipe.join("build.sh");
    fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    ImageSpec {
        name: "test".into(),
        source: ImageSource::Recipe(recipe),
        packages: BTreeSet::new(),
        seed: Seed::Credentials,
    }
}

fn make(cache: &Path, image: &ImageSpec) -> Result<GuestImage> {
    ensure(cache, image, &Scope::ignored(), &CancellationToken::new())
}

#[test]
fn an_image_is_built_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let runs = folder.path().join("runs");
    let script = format!(
        "echo run >> {}; echo disk > $1/disk.qcow2; echo elf > $1/vmlinux; echo cpio > $1/initrd; echo a=b > $1/cmdline.txt",
        runs.display()
    );
    let image = recipe(folder.path(), &script);
    assert_eq!(cached(&cache, &image).unwrap(), None);
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| make(&cache, &image).unwrap());
        (make(&cache, &image).unwrap(), other.join().unwrap())
    });
    assert_eq!(first, second);
    assert_eq!(cached(&cache, &image).unwrap(), Some(first.clone()));
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\n");
    let kernel = first.kernel.unwrap();
    assert_eq!(kernel.cmdline, "a=b");
    assert_eq!(
        fs::read_to_string(kernel.initrd.unwrap()).unwrap(),
        "cpio\n"
    );
    assert!(fs::metadata(first.disk).unwrap().permissions().readonly());
}

/// It may be an imported disk with private keys.
#[test]
fn a_copy_of_an_image_of_this_host_is_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, path) = (folder.path().join("cache"), folder.path().join("raw"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for content in [vec![7; 1 << 20], fs::read(qcow2(folder.path())).unwrap()] {
        fs::write(&path, &content).unwrap();
        let image = ImageSpec {
            name: "test".into(),
            source: ImageSource::Path {
                path: path.clone(),
                sha256: Digest::of(&content),
            },
            packages: BTreeSet::new(),
            seed: Seed::Credentials,
        };
        let is_qcow2 = content.starts_with(b"QFI\xfb");
        let before = is_qcow2.then_some(pspd_model::spec::Size::mib(1));
        assert_eq!(size(&cache, &image).unwrap(), before);
        let disk = make(&cache, &image).unwrap().disk;
        fs::remove_file(&path).unwrap();
        let after = size(&cache, &image).unwrap();
        assert_eq!(after, Some(pspd_model::spec::Size::mib(1)));
        let folder = disk.parent().unwrap();
        assert_eq!((mode(&disk), mode(folder)), (0o400, 0o711));
        // As earlier versions left it.
        fs::set_permissions(&disk, fs::Permissions::from_mode(0o444)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(make(&cache, &image).unwrap().disk, disk);
        assert_eq!((mode(&disk), mode(folder)), (0o400, 0o711));
    }
    let script = "echo >$1/disk.qcow2; echo >$1/tool; chmod 755 $1/tool";
    let built = make(&cache, &recipe(folder.path(), script)).unwrap();
    assert_eq!(mode(&built.disk), 0o444);
    assert_eq!(mode(&built.disk.with_file_name("tool")), 0o555);
}

fn qcow2(folder: &Path) -> PathBuf {
    let path = folder.join("disk");
    crate::disk::create(&path, pspd_model::spec::Size::mib(1)).unwrap();
    path
}

#[test]
fn a_failed_build_leaves_only_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let image = recipe(folder.path(), "touch $1/disk.qcow2; false");
    make(&cache, &image).unwrap_err();
    let digest = digest(&image).unwrap();
    let mut left: Vec<_> = fs::read_dir(cache.join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            format!("{digest}.lock").as_str(),
            format!("{digest}.log").as_str()
        ]
    );
    assert_eq!(list(&cache).unwrap(), []);
}

#[test]
fn the_remains_of_a_killed_build_are_not_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let image = recipe(
        folder.path(),
        "test ! -e $1/disk.qcow2; touch $1/disk.qcow2",
    );
    let left = cache
        .join("images")
        .join(format!("{}.partial", digest(&image).unwrap()));
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("disk.qcow2"), "half").unwrap();
    assert_eq!(cached(&cache, &image).unwrap(), None);
    make(&cache, &image).unwrap();
    assert!(!left.exists());
}

#[test]
fn an_image_by_path_is_refused_or_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let path = folder.path().join("image");
    crate::disk::create(&path, pspd_model::spec::Size::mib(1)).unwrap();
    let mut image = ImageSpec {
        name: "test".into(),
        source: ImageSource::Path {
            path: path.clone(),
            sha256: Digest::of(b"another"),
        },
        packages: BTreeSet::new(),
        seed: Seed::Nocloud,
    };
    make(&cache, &image).unwrap_err();
    assert_eq!(list(&cache).unwrap(), []);
    assert!(
        !cache
            .join("images")
            .join(format!("{}.partial", Digest::of(b"another")))
            .exists()
    );
    image.source = ImageSource::Path {
        sha256: Digest::of(&fs::read(&path).unwrap()),
        path: path.clone(),
    };
    let made = make(&cache, &image).unwrap();
    assert_eq!(made.seed, Seed::Nocloud);
    assert_eq!(made.kernel, None);
    assert_eq!(fs::read(made.disk).unwrap(), fs::read(path).unwrap());
}

#[test]
fn pruning_keeps_what_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let kept = make(&cache, &recipe(folder.path(), "echo kept > $1/disk.qcow2")).unwrap();
    let other = make(&cache, &recipe(folder.path(), "echo other > $1/disk.qcow2")).unwrap();
    assert_eq!(list(&cache).unwrap().len(), 2);
    let removed = prune(&cache, &BTreeSet::from([kept.digest.clone()])).unwrap();
    assert_eq!(
        removed
            .iter()
            .map(|image| &image.digest)
            .collect::<Vec<_>>(),
        [&other.digest]
    );
    assert!(kept.disk.exists());
    assert!(!other.disk.exists());
    assert_eq!(prune(&cache, &BTreeSet::from([kept.digest])).unwrap(), []);
}

#[test]
fn packages_make_another_image_and_reach_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let plain = recipe(folder.path(), "out=$1; shift; echo \"$@\" >$out/disk.qcow2");
    let with = |packages: &[&str]| ImageSpec {
        packages: packages.iter().map(|&name| name.to_owned()).collect(),
        ..plain.clone()
    };
    let images = [plain.clone(), with(&["a", "b"]), with(&["ab"])];
    let said = images.each_ref().map(|image| {
        let made = make(&cache, image).unwrap();
        fs::read_to_string(made.disk).unwrap()
    });
    assert_eq!(said, ["\n", "a b\n", "ab\n"]);
    assert_eq!(list(&cache).unwrap().len(), images.len());
}

#[test]
fn two_builds_of_a_recipe_have_two_names() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let count = folder.path().join("count");
    let script = format!("echo >>{0}; cp {0} $1/disk.qcow2", count.display());
    let image = recipe(folder.path(), &script);
    let first = make(&cache, &image).unwrap();
    assert_eq!(prune(&cache, &BTreeSet::new()).unwrap().len(), 1);
    let second = make(&cache, &image).unwrap();
    assert_eq!(first.digest, second.digest);
    assert_ne!(first.disk, second.disk);
    assert!(!first.disk.exists() && second.disk.exists());
    // As an earlier version named it.
    fs::rename(&second.disk, place(&cache, &second.digest)).unwrap();
    let found = cached(&cache, &image).unwrap().unwrap();
    assert_eq!(found.disk, place(&cache, &second.digest));
}
