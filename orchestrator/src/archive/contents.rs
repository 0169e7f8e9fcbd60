//! What goes into an archive: the files in their order, and the spec that names them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use pspd_model::definition::Accelerator;
use pspd_model::hint::Hint as _;
use pspd_model::spec::{DomainSpec, Name, Seed, Spec};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::blank::{Blanks, Known, Text};
use super::hashing::{Found, Hashing};
use super::item::{Item, Source};
use super::manifest::{Content, FileName, Secret};
use super::portable::{self, Names, Plain};
use super::readme::Readme;
use crate::disk::qcow2::Disk;
use crate::event::Scope;
use crate::firmware::Rom;
use crate::identity::Identity;
use crate::image::GuestImage;
use crate::placement::written;
use crate::progress::Progress;
use crate::state::Home;
use crate::tree;

/// What is packed, and of what.
pub struct Contents {
    pub items: Vec<Item>,
    pub spec: Value,
}

/// What contents are made from.
pub struct Deployment<'a> {
    pub spec: &'a Spec,
    pub home: &'a Home,
    pub identity: &'a Identity,
    /// By the spec's keys; the domains' system disks are overlays of them.
    pub images: &'a BTreeMap<String, GuestImage>,
    /// ROMs of the domains that have one: the user's own, and those that pspd built.
    pub roms: BTreeMap<Name, Rom>,
    pub accelerator: Accelerator,
    /// Pack private keys.
    pub with_secrets: bool,
    /// Self-contained system disks that were made before, by domain.
    pub flattened: BTreeMap<Name, PathBuf>,
    /// Copies without layers that were made before, by the names of their disks.
    pub collapsed: BTreeMap<PathBuf, PathBuf>,
}

impl Deployment<'_> {
    pub fn contents(&self, cancel: &CancellationToken) -> Result<Contents> {
        let mut names = Names::default();
        let blanks = self.blanks()?;
        let mut items = self.images(&blanks, &mut names, cancel)?;
        for domain in self.spec.domains.values() {
            self.files(domain, &mut names, &mut items)?;
            self.disks(domain, &blanks, &names, &mut items)?;
        }
        if self.with_secrets {
            self.secrets(&mut items)?;
        }
        let mut plain = vec![
            text("README", self.readme(&items))?,
            text("network.xml", portable::network_xml(self.spec))?,
        ];
        for domain in self.spec.domains.values() {
            let name = portable::xml_file(&domain.name);
            plain.push(text(&name, self.domain_xml(domain, &names)?)?);
        }
        let spec = Value::Object(written::topology(self.spec, &names));
        if let Some(blanks) = &blanks {
            let text = serde_json::to_vec(&spec)?;
            blanks.refuse(&text, "the topology")?;
        }
        plain.append(&mut items);
        Ok(Contents { items: plain, spec })
    }

    fn readme(&self, items: &[Item]) -> String {
        let readme = Readme {
            spec: self.spec,
            accelerator: self.accelerator,
            with_secrets: self.with_secrets,
        };
        readme.text(items)
    }

    /// What is left out of disks; nothing of an archive that has the keys anyway.
    fn blanks(&self) -> Result<Option<Arc<Blanks>>> {
        if self.with_secrets {
            return Ok(None);
        }
        let keys = self.identity.private_keys(self.spec)?.into_iter();
        let mut known: Vec<Known> = keys
            .map(|(name, pem)| Known {
                name,
                text: Text::Pem(pem),
            })
            .collect();
        let generated = self.identity.generated_secrets()?.into_iter();
        known.extend(generated.map(|value| Known {
            name: "a generated secret".to_owned(),
            text: Text::Value(value),
        }));
        let (mut names, mut files) = (BTreeSet::new(), BTreeSet::new());
        for domain in self.spec.domains.values() {
            let Some(service) = &domain.service else {
                continue;
            };
            for (key, value) in self.identity.secrets(&domain.name, service)? {
                known.push(Known {
                    name: format!("the secret `{key}` of `{}`", domain.name),
                    text: Text::Value(value),
                });
                names.insert(key);
            }
            files.extend(service.program.binary().map(Path::to_owned));
            for path in service.files.values() {
                match path.is_dir() {
                    true => files.extend(tree::files(path)?),
                    false => drop(files.insert(path.clone())),
                }
            }
        }
        let names: Vec<_> = names.into_iter().collect();
        let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
        Ok(Some(Arc::new(Blanks::of(&known, &names, &files)?)))
    }

    /// The images once each, whatever number of domains are over them.
    fn images(
        &self,
        blanks: &Option<Arc<Blanks>>,
        names: &mut Names,
        cancel: &CancellationToken,
    ) -> Result<Vec<Item>> {
        let mut items: Vec<Item> = Vec::new();
        let shared = self.images.iter().filter(|(key, _)| {
            let mut domains = self.spec.domains.values();
            domains.any(|one| one.image == **key && !self.flattened.contains_key(&one.name))
        });
        let shared = shared.map(|(key, image)| (key.clone(), image.disk.clone(), None));
        let flattened = self
            .flattened
            .iter()
            .map(|(name, path)| (name.to_string(), path.clone(), Some(name)));
        for (key, path, domain) in shared.chain(flattened) {
            let disk = Disk::open(&path)?;
            let virtual_size = disk.header.size.0;
            // What was flattened is a domain's own disk. So is an image that was imported from such an archive, which
            // contains secrets if the archive did. Any other image is packed unchanged.
            let unchanged = match domain {
                Some(_) => None,
                None => unchanged(&disk, &path, blanks.as_deref(), cancel)?,
            };
            let (source, found) = match unchanged {
                Some(found) => (Source::File(path), found),
                None => {
                    let source = Source::Disk {
                        disk: Box::new(disk),
                        over: None,
                        blanks: blanks.clone(),
                    };
                    let found = found(&source, cancel)?;
                    (source, found)
                }
            };
            let digest = found.sha256.clone();
            let name = match domain {
                Some(domain) => FileName::new(&format!("{domain}.qcow2"))?,
                // Longer than a name can be, so that it is not a volume of a domain `base`.
                None => FileName::new(&format!("base.{digest}.qcow2"))?,
            };
            match domain {
                Some(domain) => names
                    .flattened
                    .insert(domain.clone(), (name.clone(), digest)),
                None => names.images.insert(key, (name.clone(), digest)),
            };
            if items.iter().any(|item| item.name == name) {
                continue;
            }
            items.push(Item {
                name,
                content: Content::Image { virtual_size },
                source,
                found: Some(found),
            });
        }
        Ok(items)
    }

    /// A domain's ROM, its service's executable, and the files and directories beside it.
    fn files(&self, domain: &DomainSpec, names: &mut Names, items: &mut Vec<Item>) -> Result<()> {
        let mut add = |name: String, path: &Path| -> Result<()> {
            if names.files.contains_key(path) {
                return Ok(());
            }
            let name = FileName::new(&name)?;
            names.files.insert(path.to_owned(), name.clone());
            // A ROM that two domains have in files of their own.
            if items.iter().any(|item| item.name == name) {
                return Ok(());
            }
            let (content, source) = match path.is_dir() {
                true => (Content::Folder {}, Source::Folder(path.to_owned())),
                false => {
                    let mode = permissions(path)?;
                    (Content::File { mode }, Source::File(path.to_owned()))
                }
            };
            items.push(Item {
                name,
                content,
                source,
                found: None,
            });
            Ok(())
        };
        if let Some(Rom { path, sha256 }) = self.roms.get(&domain.name) {
            let name = format!("firmware.{sha256}.rom");
            add(name.clone(), path)?;
            let rom = (FileName::new(&name)?, sha256.clone());
            names.roms.insert(domain.name.clone(), rom);
        }
        if let Some(service) = &domain.service {
            if let Some(binary) = service.program.binary() {
                add(format!("{}.service", domain.name), binary)?;
            }
            for (number, path) in service.files.values().enumerate() {
                add(format!("{}.service.{number}", domain.name), path)?;
            }
        }
        Ok(())
    }

    fn disks(
        &self,
        domain: &DomainSpec,
        blanks: &Option<Arc<Blanks>>,
        names: &Names,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let name = &domain.name;
        if !self.flattened.contains_key(name) {
            let disk = self.open(&self.home.disk(name))?;
            let (image, _) = &names.images[&domain.image];
            items.push(Item {
                name: FileName::new(&format!("{name}.qcow2"))?,
                content: Content::System {
                    domain: name.clone(),
                    image: image.clone(),
                    virtual_size: disk.header.size.0,
                },
                source: Source::Disk {
                    disk: Box::new(disk),
                    over: Some(image.clone()),
                    blanks: blanks.clone(),
                },
                found: None,
            });
        }
        for volume in &domain.volumes {
            let file = volume.of(name).file();
            let disk = self.open(&self.home.volumes().join(&file))?;
            items.push(Item {
                name: FileName::new(&file)?,
                content: Content::Volume {
                    domain: name.clone(),
                    volume: volume.name.clone(),
                    virtual_size: disk.header.size.0,
                },
                // Its content is the user's.
                source: Source::Disk {
                    disk: Box::new(disk),
                    over: None,
                    blanks: None,
                },
                found: None,
            });
        }
        Ok(())
    }

    fn open(&self, disk: &Path) -> Result<Disk> {
        let path = self.collapsed.get(disk).map_or(disk, PathBuf::as_path);
        let opened = Disk::open(path);
        Ok(opened.hint(
            "Run `pspd up` first if the deployment was never up: it has nothing to export then",
        )?)
    }

    fn secrets(&self, items: &mut Vec<Item>) -> Result<()> {
        let kept = |name: String, key: Secret| {
            let source = Source::File(self.home.keys().join(key.path()));
            (name, key, source)
        };
        let mut secrets = vec![
            kept("secret.authority".to_owned(), Secret::Authority {}),
            kept("secret.client".to_owned(), Secret::Client {}),
            kept("secret.ssh".to_owned(), Secret::Ssh {}),
        ];
        for DomainSpec { name, service, .. } in self.spec.domains.values() {
            let domain = || name.clone();
            secrets.push(kept(
                format!("{name}.hostkey"),
                Secret::Host { domain: domain() },
            ));
            let Some(service) = service else {
                continue;
            };
            secrets.push(kept(
                format!("{name}.certificate"),
                Secret::Service { domain: domain() },
            ));
            // Also those from files of the user's, which the archive's spec does not name.
            let values = self.identity.secrets(name, service)?;
            for (number, (key, value)) in values.into_iter().enumerate() {
                let key = Secret::Value {
                    domain: domain(),
                    key,
                };
                secrets.push((format!("{name}.secret.{number}"), key, Source::Text(value)));
            }
        }
        for (name, key, source) in secrets {
            items.push(Item {
                name: FileName::new(&name)?,
                source,
                content: Content::Secret { key },
                found: None,
            });
        }
        Ok(())
    }

    fn domain_xml(&self, domain: &DomainSpec, names: &Names) -> Result<String> {
        let name = &domain.name;
        let mut disks = vec![(
            FileName::new(&format!("{name}.qcow2"))?,
            "system".to_owned(),
        )];
        for volume in &domain.volumes {
            let file = FileName::new(&volume.of(name).file())?;
            disks.push((file, volume.name.to_string()));
        }
        let seed = self.images[&domain.image].seed;
        let host_key = (self.with_secrets && seed == Seed::Credentials)
            .then(|| FileName::new(&format!("{name}.hostkey")))
            .transpose()?;
        let plain = Plain {
            accelerator: self.accelerator,
            oem_strings: self.identity.oem_strings(self.spec, name)?,
            disks,
            host_key,
            names,
        };
        Ok(portable::domain_xml(self.spec, domain, plain))
    }
}

fn permissions(path: &Path) -> Result<u32> {
    let file =
        fs::metadata(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(file.permissions().mode() & 0o777)
}

/// What an image's file is that is packed as it is; `None` if it has something that the archive must not have.
fn unchanged(
    disk: &Disk,
    path: &Path,
    blanks: Option<&Blanks>,
    cancel: &CancellationToken,
) -> Result<Option<Found>> {
    thread::scope(|scope| {
        let search = scope.spawn(|| has_secrets(disk, blanks, cancel));
        let found = found(&Source::File(path.to_owned()), cancel);
        if search.join().expect("the search does not panic")? {
            return Ok(None);
        }
        // What import would refuse is not packed.
        disk.check(cancel)?;
        found.map(Some)
    })
}

/// Whether an image has something that the archive must not have, compressed or not.
fn has_secrets(disk: &Disk, blanks: Option<&Blanks>, cancel: &CancellationToken) -> Result<bool> {
    let Some(blanks) = blanks else {
        return Ok(false);
    };
    let found = Cell::new(false);
    let progress = Progress::new(None, "reading the images", &Scope::ignored(), cancel);
    let mut nowhere = progress.watch(io::sink());
    disk.dense(None, cancel)?.write(&mut nowhere, &|bytes| {
        found.set(found.get() || blanks.finds(bytes));
    })?;
    Ok(found.get())
}

fn text(name: &str, text: String) -> Result<Item> {
    Ok(Item {
        name: FileName::new(name)?,
        content: Content::Plain {},
        source: Source::Text(text),
        found: None,
    })
}

fn found(source: &Source, cancel: &CancellationToken) -> Result<Found> {
    let progress = Progress::new(None, "reading the disks", &Scope::ignored(), cancel);
    let mut hashing = progress.watch(Hashing::default());
    source.write(&mut hashing, cancel)?;
    Ok(hashing.into_inner().end())
}
