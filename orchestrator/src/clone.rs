//! A second deployment of the same state on this host. Its disks are over the layers that a snapshot keeps, so no disk is
//! copied; its keys, MAC addresses, network and published ports are its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pspd_model::spec::{Connection, Name, Spec};
use pspd_model::topology::parse;

use crate::disk::qcow2::Header;
use crate::disk::{LayeredDisk, create_overlay};
use crate::placement::written::{self, Here};
use crate::placement::{Placement, Taken, Wanted};
use crate::state::{Home, Paths, Snapshot, create_private, write_atomically};
use crate::{identity, observe, topology};

/// Decides what a clone of a deployment becomes; creates nothing. `folder` is where its topology goes.
pub fn placement(
    spec: &Spec,
    name: Name,
    folder: Option<PathBuf>,
    paths: &Paths,
) -> Result<Placement> {
    let (connection, mut networks) = match &spec.connection {
        // A lab has a network stack of its own.
        Connection::Lab => ("lab".to_owned(), Vec::new()),
        Connection::Uri(uri) => (uri.clone(), observe::routed_networks()?),
    };
    networks.push(spec.network.cidr);
    for home in paths.deployments()? {
        // What cannot be read has no network that runs.
        let other = home.recorded_spec().ok().flatten();
        networks.extend(other.map(|other| other.network.cidr));
    }
    let taken = Taken {
        networks,
        // The original's are its own, whether it runs or not.
        listening: |_| true,
    };
    let wanted = Wanted {
        name: Some(name),
        connection,
        folder,
    };
    let origin = format!("Cloned from `{}`", spec.name);
    Placement::decide(
        written::topology(spec, &Here),
        &origin,
        wanted,
        &taken,
        paths,
        |text, folder| {
            parse(text, folder, &topology::look).map_err(|faults| {
                let faults = faults.into_iter().map(|fault| fault.message);
                let faults: Vec<String> = faults.collect();
                anyhow::anyhow!("the clone would not be valid: {}", faults.join("; "))
            })
        },
    )
}

/// Makes the clone's disks over those of a snapshot of `source`. The caller holds the locks of both deployments.
pub fn place(placement: &Placement, source: &Home, snapshot: &Snapshot) -> Result<()> {
    placement.place(|_, _| {
        for (domain, of) in &snapshot.domains {
            for disk in LayeredDisk::all(source, &snapshot.spec.domains[domain]) {
                let Some(file) = of.disks.get(&disk.serial) else {
                    continue;
                };
                let layer = disk.named(file);
                let layer = layer
                    .canonicalize()
                    .with_context(|| format!("the layer `{}` is missing", layer.display()))?;
                let own = LayeredDisk::new(&placement.home, domain, &disk.serial);
                create_overlay(&layer, &own.path, Header::open(&layer)?.size)?;
            }
        }
        copy_secrets(source, &placement.home, &snapshot.spec)
    })
}

/// Data on the volumes may need the secrets of services. Its keys are new.
fn copy_secrets(source: &Home, to: &Home, spec: &Spec) -> Result<()> {
    for domain in spec.domains.values() {
        let service = domain.service.iter();
        for secret in service.flat_map(|service| service.secrets.keys()) {
            let file = identity::file_of_secret(&domain.name, secret);
            let (from, to) = (source.keys().join(&file), to.keys().join(&file));
            let value = match fs::read(&from) {
                // Made by an `up` that has not been.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                value => value.with_context(|| format!("failed to read `{}`", from.display()))?,
            };
            create_private(to.parent().unwrap_or(Path::new("/")))?;
            write_atomically(&to, &value, 0o600)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::read_to_string;

    use pspd_model::spec::{Digest, SYSTEM_DISK};

    use super::*;
    use crate::disk::{self, layers};
    use crate::placement::TOPOLOGY;
    use crate::state::SnapshotDomain;

    /// A deployment with one snapshot, as `up` and `snapshot save` leave its files.
    struct Original {
        folder: tempfile::TempDir,
        paths: Paths,
        spec: Spec,
        home: Home,
        snapshot: Snapshot,
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    impl Original {
        fn new() -> Original {
            let temporary = tempfile::tempdir().unwrap();
            let folder = temporary.path().canonicalize().unwrap();
            let paths = Paths {
                state: folder.join("state"),
                cache: folder.join("cache"),
            };
            let digest = Digest::of(b"image");
            let image = folder.join("image");
            disk::create(&image, pspd_model::spec::Size::mib(8)).unwrap();
            for file in ["service", "words", "rom"] {
                fs::write(folder.join(file), "a file").unwrap();
            }
            fs::create_dir(folder.join("recipe")).unwrap();
            fs::write(folder.join("recipe/build.sh"), "").unwrap();
            let text = format!(
                "name: demo\n\
                 network: {{cidr: 10.64.0.0/24}}\n\
                 images: {{debian: {{recipe: recipe, packages: [nano]}}, other: {{path: image, sha256: {digest}}}, web: {{url: \"https://example.org/a\", sha256: {digest}}}}}\n\
                 domains:\n\
                 \x20 store:\n\
                 \x20   image: debian\n\
                 \x20   firmware: {{coreboot: {{payload: linux, cmdline: quiet}}}}\n\
                 \x20   disks: {{data: {{size: 4 MiB, mount: /data}}}}\n\
                 \x20   service: {{binary: service, port: 50051, health: a.B, secrets: {{TOKEN: generate, WORD: {{file: words}}}}, files: {{words.txt: words}}}}\n\
                 \x20   publish: [\"127.0.0.1:9:50051\", {{http: 80, listen: 10, hosts: [a.example], tls: self-signed}}, {{http: 80, listen: 11, tls: {{cert: words, key: rom}}}}]\n\
                 \x20 plain: {{image: other, firmware: {{rom: rom, sha256: {digest}}}}}\n\
                 \x20 direct: {{image: debian, boot: disk, firmware: uefi}}\n\
                 \x20 core: {{image: web, firmware: coreboot, push: ssh}}\n"
            );
            let spec = parse(&text, &folder, &topology::look).unwrap();
            let home = paths.deployment(&spec.name);
            home.create().unwrap();
            home.record_spec(&spec).unwrap();
            let token = home
                .keys()
                .join(identity::file_of_secret(&name("store"), "TOKEN"));
            create_private(token.parent().unwrap()).unwrap();
            fs::write(token, "swordfish").unwrap();
            fs::write(home.keys().join("ca.pem"), "a key").unwrap();
            let mut snapshot = Snapshot::new(spec.clone(), String::new(), 0);
            let store = &spec.domains[&name("store")];
            let mut of = SnapshotDomain {
                disks: Default::default(),
                memory: None,
                runs: true,
                deployed: None,
            };
            for disk in LayeredDisk::all(&home, store) {
                create_overlay(&image, &disk.path, pspd_model::spec::Size::mib(16)).unwrap();
                let layer = disk.add().unwrap();
                let frozen = layers::below(&layer).unwrap().unwrap();
                disk.switch(&layer).unwrap();
                let file = frozen.file_name().unwrap().to_string_lossy();
                of.disks.insert(disk.serial, file.into_owned());
            }
            snapshot.domains.insert(name("store"), of);
            Original {
                folder: temporary,
                paths,
                spec,
                home,
                snapshot,
            }
        }

        fn clone(&self, text: &str) -> Placement {
            let folder = Some(self.folder.path().join(text));
            let placement = placement(&self.spec, name(text), folder, &self.paths).unwrap();
            placement.refuse_taken().unwrap();
            place(&placement, &self.home, &self.snapshot).unwrap();
            placement.home.record_spec(&placement.spec).unwrap();
            placement
        }
    }

    #[test]
    fn a_clone_is_the_same_but_for_what_must_be_its_own() {
        let original = Original::new();
        let clone = original.clone("copy");
        let written = topology::load(&clone.folder.join(TOPOLOGY)).unwrap();
        assert_eq!(written, clone.spec);
        let mut expected = original.spec.clone();
        expected.name = name("copy");
        expected.network = written.network.clone();
        assert!(!written.network.cidr.contains(&original.spec.network.cidr));
        for (name, domain) in &mut expected.domains {
            let own = &written.domains[name];
            assert_ne!((own.mac, own.address), (domain.mac, domain.address));
            assert!(written.network.cidr.contains(&own.address));
            (domain.mac, domain.address) = (own.mac, own.address);
            for (publish, own) in domain.publish.iter_mut().zip(&own.publish) {
                assert_ne!(publish.host, own.host);
                publish.host = own.host;
            }
        }
        assert_eq!(written, expected);
        let token = identity::file_of_secret(&name("store"), "TOKEN");
        assert_eq!(
            read_to_string(clone.home.keys().join(token)).unwrap(),
            "swordfish"
        );
        assert!(!clone.home.keys().join("ca.pem").exists());
        // Another clone gets another network.
        let second = original.clone("second").spec.network.cidr;
        assert!(!second.contains(&written.network.cidr));
    }

    #[test]
    fn what_a_clone_needs_of_its_original_is_kept() {
        let original = Original::new();
        let (home, store) = (&original.home, name("store"));
        assert!(disk::clones(home).unwrap().is_empty());
        let clone = original.clone("copy");
        let layers: BTreeSet<String> = original.snapshot.domains[&store]
            .disks
            .values()
            .cloned()
            .collect();
        let of_copy = |home: &Home| disk::clones(home).unwrap().remove("copy");
        assert_eq!(of_copy(home), Some(layers.clone()));
        assert_eq!(of_copy(&clone.home), None);
        // No snapshot keeps them, and the original's own disks are gone.
        fs::remove_file(home.disk(&store)).unwrap();
        let kept = disk::kept_layers(home).unwrap();
        assert_eq!(kept, layers);
        layers::remove_unused(home, &store, &kept).unwrap();
        let own = LayeredDisk::new(&clone.home, &store, SYSTEM_DISK);
        assert_eq!(layers::chain(&own.path).unwrap().len(), 3);
        // A snapshot of the clone is over the same layers, and a clone of the clone is not.
        let layer = own.add().unwrap();
        own.switch(&layer).unwrap();
        assert_eq!(of_copy(home), Some(layers));
        clone.remove().unwrap();
        assert!(disk::clones(home).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_disk_of_another_deployment_matters_only_where_it_can_be_a_clone() {
        let original = Original::new();
        let other = original.paths.deployment(&name("other"));
        other.create().unwrap();
        fs::write(other.disk(&name("web")), "damaged").unwrap();
        let error = format!("{:#}", disk::kept_layers(&original.home).unwrap_err());
        assert!(
            error.starts_with("failed to find out which disks the deployment `other` needs"),
            "{error}"
        );
        let third = original.paths.deployment(&name("third"));
        third.create().unwrap();
        assert!(disk::kept_layers(&third).unwrap().is_empty());
    }
}
