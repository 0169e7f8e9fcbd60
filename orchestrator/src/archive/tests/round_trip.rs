//! Whole round trips without guests.

use std::sync::Arc;

use pspd_model::spec::{Firmware, ServiceSpec, Size, VolumeSpec};

use super::*;
use crate::apply::{self, Run};
use crate::event::{Event, Events};
use crate::execute::{JOBS, Outcome};
use crate::hint::told;
use crate::state::create_private;

#[test]
fn what_is_exported_is_imported() {
    let fixture = Fixture::new();
    for file in ["a.tar.xz", "a.tar.zst", "a.tar.gz", "a.tar"] {
        let archive = fixture.pack(file, false);
        let host = Host::new();
        let placement = host.import(&archive).unwrap();
        let spec = crate::topology::load(&placement.folder.join(TOPOLOGY)).unwrap();
        assert_eq!(spec, placement.spec, "{file}");
        assert_eq!(spec.name.as_str(), "copy");
        for (name, domain) in &spec.domains {
            let before = &fixture.spec.domains[name];
            assert_ne!(domain.mac, before.mac);
            assert_eq!(
                (domain.memory, domain.vcpus, domain.address),
                (before.memory, before.vcpus, before.address)
            );
            assert_eq!(
                (domain.system_disk, &domain.volumes),
                (before.system_disk, &before.volumes)
            );
            assert_eq!(
                (domain.machine, &domain.depends_on, domain.boot_timeout),
                (before.machine, &before.depends_on, before.boot_timeout)
            );
        }
        let service = spec.domains[&Name::new("store").unwrap()]
            .service
            .clone()
            .unwrap();
        assert_eq!(
            fs::read_to_string(service.program.binary().unwrap()).unwrap(),
            "an executable"
        );
        assert_eq!(service.environment["A"], "b: 'c'");
        assert_eq!(service.checkpoint, ["--now"]);
        // As `up` does it: then the disks have their base.
        let image = crate::image::ensure(
            &host.paths.cache,
            &spec.images["debian"],
            &Scope::ignored(),
            &CancellationToken::new(),
        )
        .unwrap();
        assert_eq!(image.digest, fixture.images()["debian"].digest);
        for name in spec.domains.keys() {
            let (ours, theirs) = (placement.home.disk(name), fixture.home.disk(name));
            same_disk(&theirs, &ours);
            tool("qemu-img", &["check", "-q", "-f", "qcow2", text(&ours)]);
        }
        let volume = "store.data.qcow2";
        let (ours, theirs) = (
            placement.home.volumes().join(volume),
            fixture.home.volumes().join(volume),
        );
        same_disk(&theirs, &ours);
        assert!(!placement.home.keys().exists(), "keys came along");
    }
}

#[test]
fn secrets_come_along_only_when_asked_for() {
    let fixture = Fixture::new();
    let secret = fs::read(fixture.home.keys().join("ca.pem"));
    let host = Host::new();
    let placement = host.import(&fixture.pack("with.tar.zst", true)).unwrap();
    let key = |home: &Home| fs::read_to_string(home.keys().join("ca.pem")).unwrap();
    assert_eq!(key(&placement.home), key(&fixture.home));
    let secrets = |home: &Home, spec: &Spec| {
        let store = &spec.domains[&Name::new("store").unwrap()];
        let identity = created_keys(&home.keys(), spec);
        let service = store.service.as_ref().unwrap();
        identity.secrets(&store.name, service).unwrap()
    };
    let values = secrets(&fixture.home, &fixture.spec);
    assert_eq!(values["WORD"], "swordfish");
    assert_eq!(secrets(&placement.home, &placement.spec), values);
    assert!(secret.is_err(), "it was made by packing");
    let tar = fs::read(fixture.pack("without.tar", false)).unwrap();
    let tar = String::from_utf8_lossy(&tar);
    for secret in ["BEGIN", &values["WORD"], &values["TOKEN"]] {
        assert!(!tar.contains(secret), "`{secret}` is in the archive");
    }
}

/// A service runs with its key on its guest's system disk.
#[test]
fn a_key_on_a_disk_is_blanked_unless_it_is_asked_for() {
    let fixture = Fixture::new();
    let identity = created_keys(&fixture.home.keys(), &fixture.spec);
    let store = Name::new("store").unwrap();
    let key = identity.service(&store).unwrap().key;
    let mut block = key.clone().into_bytes();
    block.resize(4096, 0);
    fs::write(fixture.folder.path().join("key"), block).unwrap();
    let disk = fixture.home.disk(&store);
    let write = format!(
        "write -q -s {} 1536k 4k",
        text(&fixture.folder.path().join("key"))
    );
    tool("qemu-io", &["-f", "qcow2", "-c", &write, text(&disk)]);
    let key = key.trim_end();
    let has = |archive: &Path| {
        let tar = fs::read(archive).unwrap();
        String::from_utf8_lossy(&tar).matches(key).count()
    };
    // On the disk, and beside it.
    assert_eq!(has(&fixture.pack("with.tar", true)), 2);
    let without = fixture.pack("without.tar", false);
    assert_eq!(has(&without), 0);
    let flattened = BTreeMap::from([(store.clone(), fixture.flatten(&store))]);
    assert_eq!(has(&fixture.pack_with("flat.tar", false, flattened)), 0);
    let placed = Host::new().import(&without).map(|_| ());
    placed.unwrap();
}

/// Writes a text to a domain's system disk.
fn write_on_disk(fixture: &Fixture, disk: &Path, content: &[u8], at: u64) {
    let file = fixture.folder.path().join("content");
    fs::write(&file, content).unwrap();
    let write = format!("write -q -s {} {at} {}", text(&file), content.len());
    tool("qemu-io", &["-f", "qcow2", "-c", &write, text(disk)]);
}

/// Where the fixture's disks have nothing.
const FREE: u64 = 5 << 20;
const CLUSTER: u64 = 64 << 10;
/// What one L2 table names.
const TABLE: u64 = 512 << 20;

#[test]
fn a_secret_across_clusters_and_tables_is_blanked() {
    let mut fixture = Fixture::new();
    let word = fixture.folder.path().join("word");
    fs::write(word, "pa$$w0rd-0002\"x\n").unwrap();
    let store = Name::new("store").unwrap();
    let disk = fixture.home.disk(&store);
    tool("qemu-img", &["resize", "-q", text(&disk), "1G"]);
    fixture.spec.domains.get_mut(&store).unwrap().system_disk = Size::gib(1);
    let escaped = br#"WORD="pa\$\$w0rd-0002\"x""#;
    let key = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n",
        "k".repeat(64),
        "e".repeat(64)
    );
    let mut next = FREE;
    for content in [&escaped[..], key.as_bytes()] {
        for before in [1, content.len() / 2, content.len() - 1] {
            next += 4 * CLUSTER;
            write_on_disk(&fixture, &disk, content, next - before as u64);
        }
    }
    write_on_disk(&fixture, &disk, key.as_bytes(), TABLE - 100);
    let tar = fs::read(fixture.pack("without.tar", false)).unwrap();
    let tar = String::from_utf8_lossy(&tar);
    for left in ["w0rd-0002", "kkkkkkkkkkkk", "eeeeeeeeeeee"] {
        assert!(!tar.contains(left), "`{left}` is in the archive");
    }
}

/// An image that was imported is a domain's own disk where the archive had been made with `--flatten`.
#[test]
fn a_secret_in_an_image_is_blanked() {
    let fixture = Fixture::new();
    let identity = created_keys(&fixture.home.keys(), &fixture.spec);
    let host_key = identity.host_key_file(&Name::new("web").unwrap());
    let key = fs::read_to_string(host_key).unwrap();
    let image = fixture.images()["debian"].disk.clone();
    write_on_disk(&fixture, &image, key.as_bytes(), FREE);
    let secret = key.lines().nth(2).unwrap();
    let has = |archive: &Path| {
        let tar = fs::read(archive).unwrap();
        String::from_utf8_lossy(&tar).contains(secret)
    };
    assert!(has(&fixture.pack("with.tar", true)));
    let without = fixture.pack("without.tar", false);
    assert!(!has(&without));
    Host::new().import(&without).map(|_| ()).unwrap();
}

#[test]
fn a_compressed_image_is_packed_unchanged_unless_it_has_a_secret() {
    for compression in ["zlib", "zstd"] {
        let fixture = Fixture::new();
        let identity = created_keys(&fixture.home.keys(), &fixture.spec);
        let host_key = identity.host_key_file(&Name::new("web").unwrap());
        let key = fs::read_to_string(host_key).unwrap();
        let image = fixture.images()["debian"].disk.clone();
        let compress = || {
            let to = fixture.folder.path().join("compressed");
            let options = format!("compression_type={compression}");
            let (from, to_text) = (text(&image), text(&to));
            let arguments = ["convert", "-c", "-f", "qcow2", "-O", "qcow2", "-o"];
            let arguments = [&arguments[..], &[&options, from, to_text]].concat();
            tool("qemu-img", &arguments);
            fs::rename(to, &image).unwrap();
        };
        let packed = |archive: &Path| {
            let raw = Raw::read(archive);
            let name = raw.manifest_value()["spec"]["images"]["debian"]["path"].clone();
            raw.0[raw.at(name.as_str().unwrap())].1.clone()
        };
        compress();
        let public = fixture.pack("public.tar", false);
        assert!(packed(&public) == fs::read(&image).unwrap());
        Host::new().import(&public).map(|_| ()).unwrap();

        write_on_disk(&fixture, &image, key.as_bytes(), FREE);
        compress();
        let blanked = fixture.pack("blanked.tar", false);
        let copy = fixture.folder.path().join("copy.qcow2");
        fs::write(&copy, packed(&blanked)).unwrap();
        let secret = key.lines().nth(2).unwrap();
        let has = |disk: &Path| {
            let raw = fixture.folder.path().join("raw");
            let formats = ["convert", "-f", "qcow2", "-O", "raw"];
            let files = [text(disk), text(&raw)];
            tool("qemu-img", &[&formats[..], &files].concat());
            String::from_utf8_lossy(&fs::read(raw).unwrap()).contains(secret)
        };
        assert!(has(&image));
        assert!(!has(&copy), "{compression}");
        // Otherwise it is the same image.
        write_on_disk(&fixture, &copy, key.as_bytes(), FREE);
        same_disk(&image, &copy);
        Host::new().import(&blanked).map(|_| ()).unwrap();
        assert!(packed(&fixture.pack("with.tar", true)) == fs::read(&image).unwrap());
    }
}

#[test]
fn flattened_disks_need_no_base() {
    let fixture = Fixture::new();
    let names = fixture.spec.domains.keys();
    let flattened = names
        .map(|name| (name.clone(), fixture.flatten(name)))
        .collect();
    let archive = fixture.pack_with("flat.tar.zst", false, flattened);
    let host = Host::new();
    let placement = host.import(&archive).unwrap();
    assert_eq!(placement.spec.images.len(), 2);
    for name in fixture.spec.domains.keys() {
        assert!(!placement.home.disk(name).exists(), "it is an image now");
        let image = placement.folder.join(format!("{name}.qcow2"));
        same_disk(&fixture.home.disk(name), &image);
    }
    let volume = placement.home.volumes().join("store.data.qcow2");
    assert!(volume.exists());
}

/// What guests see of two disks is the same.
#[track_caller]
fn same_disk(one: &Path, other: &Path) {
    let formats = ["-q", "-f", "qcow2", "-F", "qcow2"];
    let arguments = [&["compare"], &formats[..], &[text(one), text(other)]];
    tool("qemu-img", &arguments.concat());
}

#[test]
fn a_deployment_gets_another_network_and_port_where_they_are_taken() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.zst", false);
    let host = Host::new();
    let placement = host
        .import_to(&archive, "qemu:///system", &["10.77.0.0/16"], |address| {
            address.port() == 9
        })
        .unwrap();
    let spec = &placement.spec;
    assert_eq!(spec.network.cidr.to_string(), "10.64.0.0/24");
    assert!(
        spec.domains
            .values()
            .all(|domain| spec.network.cidr.contains(&domain.address))
    );
    let store = &spec.domains[&Name::new("store").unwrap()];
    assert_ne!(store.publish[0].host.port(), 9);
    assert_eq!(placement.notes.len(), 2, "{:?}", placement.notes);
}

#[test]
fn an_import_touches_nothing_that_is_there() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.zst", false);
    let host = Host::new();
    let placement = host.import(&archive).unwrap();
    let error = host.import(&archive).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    fs::remove_dir_all(&placement.folder).unwrap();
    let error = host.import(&archive).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("pspd down --volumes"), "{error}");
    assert!(placement.home.disk(&Name::new("web").unwrap()).exists());
}

/// Imports through the plan; `cancelled` says whether Ctrl-C comes while it unpacks.
fn import_by_plan(host: &Host, archive: &Path, cancelled: bool) -> (Arc<Placement>, Outcome) {
    let (opened, placement) = host.open(archive, "lab", &[], |_| false).unwrap();
    let placement = Arc::new(placement);
    create_private(placement.home.path()).unwrap();
    let plan = pspd_model::plan::import(archive.to_owned(), placement.folder.clone());
    let (events, mut seen) = Events::channel();
    let cancel = CancellationToken::new();
    let run = Run {
        command: "import",
        paths: &host.paths,
        spec: &placement.spec,
        events: &events,
        cancel: &cancel,
        jobs: JOBS,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            while let Some(event) = seen.recv().await {
                if cancelled && matches!(event, Event::Started { .. }) {
                    cancel.cancel();
                }
            }
        });
        let placement = Arc::clone(&placement);
        apply::import(run, &plan, opened, placement).await.unwrap()
    });
    (placement, outcome)
}

#[test]
fn an_import_is_journaled() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.zst", false);
    let host = Host::new();
    let (placement, outcome) = import_by_plan(&host, &archive, false);
    assert!(outcome.is_success(), "{outcome:?}");
    let journal = fs::read_to_string(placement.home.journal_file()).unwrap();
    let entries: Vec<&str> = journal.lines().skip(1).collect();
    assert_eq!(
        entries,
        [
            r#"{"entry":"begin","step":"archive/import"}"#,
            r#"{"entry":"end","step":"archive/import"}"#,
            r#"{"entry":"close"}"#
        ]
    );
}

/// The archive was opened before with another token, so that the step itself ends well.
#[test]
fn a_cancelled_import_removes_what_it_placed() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.zst", false);
    let host = Host::new();
    let (placement, outcome) = import_by_plan(&host, &archive, true);
    assert!(outcome.cancelled && outcome.ended.len() == 1, "{outcome:?}");
    assert!(outcome.undone.iter().all(|(_, error)| error.is_none()));
    assert!(!placement.folder.exists() && !placement.home.exists());
    host.import(&archive).unwrap();
}

#[test]
fn a_killed_import_starts_over() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.zst", false);
    let host = Host::new();
    let home = host.paths.deployment(&Name::new("copy").unwrap());
    home.create().unwrap();
    fs::create_dir_all(home.path().join("importing")).unwrap();
    fs::write(home.path().join("importing/web.qcow2"), "half").unwrap();
    fs::write(home.disk(&Name::new("left").unwrap()), "whole").unwrap();
    fs::create_dir_all(host.folder.path().join(".copy.importing")).unwrap();
    let placement = host.import(&archive).unwrap();
    assert!(!home.disk(&Name::new("left").unwrap()).exists());
    assert!(!home.path().join("importing").exists());
    assert!(placement.folder.join(TOPOLOGY).exists());
}

#[test]
fn what_no_import_accepts_is_not_written() {
    let mut fixture = Fixture::new();
    let store = fixture.spec.domains.get_mut(&Name::new("store").unwrap());
    let environment = &mut store.unwrap().service.as_mut().unwrap().environment;
    environment.extend((0..11).map(|index| (format!("V{index}"), "v".repeat(100_000))));
    let refused = fixture.try_pack("a.tar", false, BTreeMap::new());
    let error = format!("{:#}", refused.unwrap_err());
    assert!(
        error.starts_with("no `pspd import` would accept the archive: "),
        "{error}"
    );
    assert!(!fixture.folder.path().join("a.tar").exists());
}

#[test]
fn an_export_replaces_a_file_only_with_force() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar", false);
    let refused = Target::new(&archive, Existing::Refuse).map(|_| ());
    let error = told(&refused.unwrap_err());
    assert!(error.ends_with(". Pass --force to replace it"), "{error}");
    Target::new(&archive, Existing::Replace).unwrap();
    let names: Vec<_> = fs::read_dir(fixture.folder.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("partial")),
        "{names:?}"
    );
}

/// Names that meet where names are joined or shortened: images, volumes and ROMs.
#[test]
fn names_that_look_alike_are_kept_apart() {
    let mut fixture = Fixture::new();
    let image = Digest::of(&fs::read(fixture.folder.path().join("image.qcow2")).unwrap());
    let (store, web) = (Name::new("store").unwrap(), Name::new("web").unwrap());
    // An image with a domain's name, which another domain uses.
    let debian = fixture.spec.images["debian"].clone();
    fixture.spec.images.insert("web".to_owned(), debian);
    let domains = &mut fixture.spec.domains;
    domains.get_mut(&store).unwrap().image = "web".to_owned();
    // The same ROM in a file of its own.
    let copy = fixture.folder.path().join("rom of web");
    fs::copy(fixture.folder.path().join("rom"), &copy).unwrap();
    let Firmware::Rom { sha256, .. } = domains[&store].firmware.clone() else {
        panic!("the fixture has a ROM");
    };
    domains.get_mut(&web).unwrap().firmware = Firmware::Rom { path: copy, sha256 };
    // A volume that could be called like a base.
    let base = Name::new("base").unwrap();
    let mut domain = domains[&web].clone();
    let volume = VolumeSpec {
        name: Name::new(image.short()).unwrap(),
        size: Size::mib(4),
        mount: "/data".into(),
    };
    let file = volume.of(&base).file();
    (domain.name, domain.address) = (base.clone(), [10, 77, 0, 200].into());
    domain.volumes = vec![volume];
    domains.insert(base.clone(), domain);
    fs::copy(fixture.home.disk(&web), fixture.home.disk(&base)).unwrap();
    let data = fixture.home.volumes().join("store.data.qcow2");
    fs::copy(data, fixture.home.volumes().join(&file)).unwrap();
    let host = Host::new();
    let placement = host.import(&fixture.pack("a.tar", false)).unwrap();
    for (name, image) in [(&store, "web"), (&web, "debian"), (&base, "debian")] {
        assert_eq!(placement.spec.domains[name].image, image, "{name}");
    }
    let ours = placement.home.volumes().join(&file);
    same_disk(&fixture.home.volumes().join(&file), &ours);
}

#[test]
fn files_keep_their_permission_bits() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    set(&fixture.folder.path().join("words"), 0o4750).unwrap();
    let host = Host::new();
    let archive = fixture.pack("a.tar", false);
    let placement = host.import(&archive).unwrap();
    let service = |spec: &Spec| {
        let store = &spec.domains[&Name::new("store").unwrap()];
        store.service.clone().unwrap()
    };
    let (ours, theirs) = (service(&placement.spec), service(&fixture.spec));
    assert_eq!(mode(&ours.files[Path::new("words.txt")]), 0o750);
    let app = |service: &ServiceSpec| {
        crate::tree::read(&service.files[Path::new("app")], &CancellationToken::new()).unwrap()
    };
    assert_eq!(app(&ours), app(&theirs));
    let binary = |service: &ServiceSpec| mode(service.program.binary().unwrap());
    assert_eq!(binary(&ours), binary(&theirs));
}

/// Found before anything is read, and nothing is left.
#[test]
fn a_target_that_cannot_be_written_is_refused_at_once() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.zst", false);
    let host = Host::new();
    let into = |folder: PathBuf| {
        let opened = Opened::open(&archive, &Scope::ignored(), &CancellationToken::new()).unwrap();
        let wanted = Wanted {
            name: None,
            connection: "lab".to_owned(),
            folder: Some(folder),
        };
        let taken = Taken {
            networks: Vec::new(),
            listening: |_| false,
        };
        let placement = placement(&opened.manifest, wanted, &taken, &host.paths).unwrap();
        let error = format!("{:#}", placement.refuse_taken().unwrap_err());
        assert!(!placement.home.exists());
        error
    };
    let link = host.folder.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert!(into(link.clone()).contains("already exists"));
    assert!(into(host.folder.path().join("missing/copy")).contains("`--into`"));
    // Not even root writes there.
    assert!(into("/proc/copy".into()).contains("writable folder `/proc`"));
    // An archive's own name is taken by such a link, too.
    let archive = host.folder.path().join("a.tar");
    std::os::unix::fs::symlink("nowhere", &archive).unwrap();
    assert!(Target::new(&archive, Existing::Refuse).is_err());
}

#[test]
fn an_import_that_reaches_further_says_so() {
    let fixture = Fixture::new();
    let host = Host::new();
    let warnings = |archive: &Path| {
        let (opened, placement) = host.open(archive, "lab", &[], |_| false).unwrap();
        super::warnings(&placement, &opened.manifest)
    };
    assert_eq!(warnings(&fixture.pack("without.tar", false)), [""; 0]);
    let with = warnings(&fixture.pack("with.tar", true));
    assert!(
        with.len() == 1 && with[0].contains("private keys"),
        "{with:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut raw = Raw::read(&fixture.pack("public.tar", false));
    raw.manifest(|manifest| {
        manifest["spec"]["domains"]["store"]["publish"] =
            json!(["0.0.0.0:9:50051", "127.0.0.1:8:50051"])
    });
    let public = warnings(&raw.write(folder.path()));
    assert_eq!(public, ["other machines can reach `store` on 0.0.0.0:9"]);
}

/// Ctrl-C ends a check within a second, wherever it is.
#[test]
fn a_cancelled_check_ends_at_once() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar.xz", false);
    let cancel = CancellationToken::new();
    let opened = Opened::open(&archive, &Scope::ignored(), &cancel).unwrap();
    cancel.cancel();
    let error = opened.verify().unwrap_err();
    assert!(
        crate::cancelled::Cancelled::is_cause_of(&error),
        "{error:#}"
    );
}
