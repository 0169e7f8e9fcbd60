//! A deployment's files and a host without guests, for tests of the whole way through an archive.

mod crafted;
mod damaged;
mod fronts;
mod generated;
mod round_trip;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use proptest::prelude::*;
use pspd_model::definition::Accelerator;
use pspd_model::plan::Existing;
use pspd_model::spec::{Digest, Name, Seed, Size, Spec, VolumeId};
use pspd_model::topology::{self, Found};
use serde_json::{Value, json};
use tar::{EntryType, Header};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::manifest::{MANIFEST, MANIFEST_DIGEST};
use super::*;
use crate::event::Scope;
use crate::firmware::Roms;
use crate::identity::{self, Identity};
use crate::image::GuestImage;
use crate::placement::{Placement, TOPOLOGY, Taken, Wanted};
use crate::state::{Home, Paths};

/// A deployment's files as `up` leaves them, without any guest.
struct Fixture {
    folder: TempDir,
    paths: Paths,
    spec: Spec,
    home: Home,
}

fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two domains with most of what a topology can say.
fn demo(sha256: &Digest, rom: &Digest) -> String {
    format!(
        "name: demo\n\
         images: {{debian: {{path: image.qcow2, sha256: {sha256}, seed: credentials}}}}\n\
         domains:\n\
         \x20 store:\n\
         \x20   image: debian\n\
         \x20   firmware: {{rom: rom, sha256: {rom}}}\n\
         \x20   disks: {{system: 16 MiB, data: {{size: 4 MiB, mount: /var/lib/store}}}}\n\
         \x20   service:\n\
         \x20     {{binary: service, port: 50051, health: a.B, environment: {{A: \"b: 'c'\"}}, arguments: [--x], secrets: {{TOKEN: generate, WORD: {{file: word}}}}, checkpoint: [--now], files: {{words.txt: words, app: app}}}}\n\
         \x20   publish: [\"127.0.0.1:9:50051\"]\n\
         \x20   boot_timeout: 90s\n\
         \x20 web: {{image: debian, depends_on: [store], memory: {{current: 384 MiB, maximum: 1 GiB}}, disks: {{system: 16 MiB}}}}\n"
    )
}

fn create_disk(path: &Path, base: Option<&Path>, size: Size) {
    let size = size.0.to_string();
    let mut arguments = vec!["create", "-q", "-f", "qcow2"];
    if let Some(base) = base {
        arguments.extend(["-F", "qcow2", "-b", text(base)]);
    }
    arguments.extend([text(path), &size]);
    tool("qemu-img", &arguments);
}

fn qemu_io(disk: &Path, commands: &[&str]) {
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    let arguments: Vec<&str> = ["-f", "qcow2"].into_iter().chain(commands).collect();
    tool("qemu-io", &[&arguments[..], &[text(disk)]].concat());
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::of(demo).unwrap()
    }

    /// Of a topology, made of the digests of an image and of a ROM. Returns `None` if it is refused.
    fn of(topology: impl FnOnce(&Digest, &Digest) -> String) -> Option<Fixture> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let paths = Paths {
            state: at("state"),
            cache: at("cache"),
        };
        let source = at("image.qcow2");
        tool(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", text(&source), "8M"],
        );
        tool(
            "qemu-io",
            &["-f", "qcow2", "-c", "write -P 1 0 3M", text(&source)],
        );
        let sha256 = Digest::of(&fs::read(&source).unwrap());
        fs::write(at("service"), "an executable").unwrap();
        fs::write(at("words"), "a file beside it").unwrap();
        fs::create_dir_all(at("app/lib")).unwrap();
        fs::write(at("app/lib/code.py"), "code").unwrap();
        std::os::unix::fs::symlink("lib/code.py", at("app/main.py")).unwrap();
        fs::write(at("word"), "swordfish\n").unwrap();
        fs::write(at("rom"), vec![7; 1 << 16]).unwrap();
        let rom = Digest::of(&[7; 1 << 16]);
        let found = |path: &Path| match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Found::Folder,
            Ok(_) => Found::File,
            Err(_) => Found::Nothing,
        };
        let spec = topology::parse(&topology(&sha256, &rom), folder.path(), &found).ok()?;
        let home = paths.deployment(&spec.name);
        home.create().unwrap();
        let base = crate::image::place(&paths.cache, &sha256);
        fs::create_dir_all(base.parent().unwrap()).unwrap();
        fs::copy(&source, &base).unwrap();
        for (index, domain) in spec.domains.values().enumerate() {
            let disk = home.disk(&domain.name);
            create_disk(&disk, Some(&base), domain.system_disk);
            let write = format!("write -P {} 1M 1M", index + 2);
            qemu_io(&disk, &[&write, "discard 2M 512k"]);
            for volume in &domain.volumes {
                let id = VolumeId {
                    domain: domain.name.clone(),
                    volume: volume.name.clone(),
                };
                let file = home.volumes().join(id.file());
                create_disk(&file, None, volume.size);
                qemu_io(&file, &["write -P 9 64k 1M"]);
            }
        }
        Some(Fixture {
            folder,
            paths,
            spec,
            home,
        })
    }

    fn images(&self) -> BTreeMap<String, GuestImage> {
        let images = self.spec.images.iter().map(|(key, image)| {
            let cached = crate::image::cached(&self.paths.cache, image)
                .unwrap()
                .unwrap();
            assert_eq!(cached.seed, Seed::Credentials);
            (key.clone(), cached)
        });
        images.collect()
    }

    fn pack(&self, file: &str, with_secrets: bool) -> PathBuf {
        self.pack_with(file, with_secrets, BTreeMap::new())
    }

    fn pack_with(
        &self,
        file: &str,
        with_secrets: bool,
        flattened: BTreeMap<Name, PathBuf>,
    ) -> PathBuf {
        self.try_pack(file, with_secrets, flattened).unwrap()
    }

    fn try_pack(
        &self,
        file: &str,
        with_secrets: bool,
        flattened: BTreeMap<Name, PathBuf>,
    ) -> Result<PathBuf> {
        let to = self.folder.path().join(file);
        let identity = created_keys(&self.home.keys(), &self.spec);
        let images = self.images();
        let roms = Roms {
            cache: &self.paths.cache,
            scope: &Scope::ignored(),
            cancel: &CancellationToken::new(),
        };
        let contents = Deployment {
            spec: &self.spec,
            home: &self.home,
            identity: &identity,
            images: &images,
            roms: roms.of_domains(&self.spec, &images).unwrap(),
            accelerator: Accelerator::Tcg,
            with_secrets,
            flattened,
            collapsed: BTreeMap::new(),
        }
        .contents(&CancellationToken::new())?;
        let target = Target::new(&to, Existing::Refuse).unwrap();
        pack(
            &contents,
            &target,
            &Scope::ignored(),
            &CancellationToken::new(),
        )?;
        Ok(to)
    }
}

impl Fixture {
    /// A self-contained copy of a domain's disk.
    fn flatten(&self, name: &Name) -> PathBuf {
        let to = self.folder.path().join(format!("{name}.flat"));
        crate::disk::flatten(&self.home.disk(name), &to, &CancellationToken::new()).unwrap();
        to
    }
}

/// A host that nothing was imported to yet.
struct Host {
    folder: TempDir,
    paths: Paths,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: folder.path().join("state"),
            cache: folder.path().join("cache"),
        };
        Host { folder, paths }
    }

    fn import(&self, archive: &Path) -> Result<Placement> {
        self.import_to(archive, "lab", &[], |_| false)
    }

    fn import_to(
        &self,
        archive: &Path,
        connection: &str,
        networks: &[&str],
        listening: fn(std::net::SocketAddr) -> bool,
    ) -> Result<Placement> {
        let (opened, placement) = self.open(archive, connection, networks, listening)?;
        place(&placement, opened, &self.paths.cache)?;
        verify(archive).unwrap();
        Ok(placement)
    }

    /// What an import knows before it places anything.
    fn open(
        &self,
        archive: &Path,
        connection: &str,
        networks: &[&str],
        listening: fn(std::net::SocketAddr) -> bool,
    ) -> Result<(Opened, Placement)> {
        let opened = Opened::open(archive, &Scope::ignored(), &CancellationToken::new())?;
        let wanted = Wanted {
            name: Some(Name::new("copy").unwrap()),
            connection: connection.to_owned(),
            folder: Some(self.folder.path().join("copy")),
        };
        let taken = Taken {
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
            listening,
        };
        let placement = placement(&opened.manifest, wanted, &taken, &self.paths)?;
        placement.refuse_taken()?;
        Ok((opened, placement))
    }

    /// Imports what must be refused, and checks that nothing of it is left.
    #[track_caller]
    fn refuses(archive: &Path) -> String {
        let host = Host::new();
        let error = host
            .import(archive)
            .map(|_| ())
            .expect_err("it was imported");
        verify(archive).expect_err("`export --verify` accepts what import refuses");
        let mut left: Vec<PathBuf> = Vec::new();
        let mut folders = vec![host.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    left.push(path)
                }
            }
        }
        assert!(left.is_empty(), "{left:?} is left after: {error:#}");
        format!("{error:#}")
    }
}

/// What `export --verify` and `import --dry-run` do.
fn verify(archive: &Path) -> Result<()> {
    Opened::open(archive, &Scope::ignored(), &CancellationToken::new())?.verify()
}

/// An archive taken apart, to be put together otherwise.
#[derive(Clone)]
struct Raw(Vec<(Header, Vec<u8>)>);

impl Raw {
    fn read(archive: &Path) -> Raw {
        let mut tar = tar::Archive::new(fs::File::open(archive).unwrap());
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.header().clone(), content)
        });
        Raw(entries.collect())
    }

    fn at(&self, name: &str) -> usize {
        let name = format!("{FOLDER}/{name}");
        self.0
            .iter()
            .position(|(header, _)| *header.path_bytes() == *name.as_bytes())
            .unwrap()
    }

    fn add(&mut self, path: &str, kind: EntryType, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.push((header, content.to_vec()));
    }

    fn rename(&mut self, index: usize, path: &[u8]) {
        let header = &mut self.0[index].0;
        header.as_old_mut().name = [0; 100];
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.set_cksum();
    }

    fn set(&mut self, name: &str, content: Vec<u8>) {
        let index = self.at(name);
        self.0[index].0.set_size(content.len() as u64);
        self.0[index].0.set_cksum();
        self.0[index].1 = content;
    }

    fn manifest_value(&self) -> Value {
        serde_json::from_slice(&self.0[self.at(MANIFEST)].1).unwrap()
    }

    /// Changes the manifest, with its digest.
    fn manifest(&mut self, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.0[self.at(MANIFEST)].1).unwrap();
        change(&mut value);
        let text = serde_json::to_vec(&value).unwrap();
        self.set(
            MANIFEST_DIGEST,
            format!("{}  {MANIFEST}\n", Digest::of(&text)).into_bytes(),
        );
        self.set(MANIFEST, text);
    }

    /// Changes a file, and the manifest with it.
    fn replace(&mut self, name: &str, content: Vec<u8>) {
        let (size, sha256) = (content.len(), Digest::of(&content));
        self.set(name, content);
        self.manifest(|manifest| {
            let entry = file(manifest, name);
            entry["size"] = json!(size);
            entry["sha256"] = json!(sha256);
        });
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        for (header, content) in &self.0 {
            tar.append(header, &content[..]).unwrap();
        }
        let path = folder.join("crafted.tar");
        fs::write(&path, tar.into_inner().unwrap()).unwrap();
        path
    }
}

fn file<'a>(manifest: &'a mut Value, name: &str) -> &'a mut Value {
    let files = manifest["files"].as_array_mut().unwrap();
    files.iter_mut().find(|file| file["name"] == name).unwrap()
}

/// The keys of a deployment, created where they are missing.
fn created_keys(folder: &Path, spec: &Spec) -> Identity {
    identity::create(folder, spec).unwrap();
    Identity::load(folder).unwrap().unwrap()
}
