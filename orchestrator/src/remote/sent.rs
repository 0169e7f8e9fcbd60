//! The topology as a host gets it: each file and directory that it names is an object, named by its content.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pspd_model::publish::FrontTls;
use pspd_model::spec::{Digest, DomainSpec, Firmware, ImageSource, ImageSpec, Name, Secret, Spec};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::placement::Mapping;
use crate::placement::written::{self, Here, Sources};
use crate::{digest, placement, tree};

/// The folder of objects, beside the topology.
pub(super) const OBJECTS: &str = "objects";

/// A topology whose paths lead to objects, and those objects.
pub(super) struct Sent {
    pub text: String,
    pub objects: BTreeMap<Digest, PathBuf>,
}

impl Sent {
    /// Reads all files that the spec names. One of several hosts gets the whole topology, and the files of its own domains.
    pub(super) fn of(spec: &Spec, host: &Name, cancel: &CancellationToken) -> Result<Sent> {
        let (mut topology, mut objects) = read(spec, cancel)?;
        topology.insert("autostart".to_owned(), json!(spec.autostart));
        if spec.is_spread() {
            let hosts = spec.hosts.iter();
            let hosts =
                hosts.map(|(name, host)| (name, json!({"ssh": host.ssh, "port": host.port})));
            topology.insert("hosts".to_owned(), json!(hosts.collect::<BTreeMap<_, _>>()));
            for (name, domain) in &spec.domains {
                topology["domains"][name.as_str()]["host"] = json!(domain.host);
            }
            let (_, own) = read(&spec.clone().on(host), cancel)?;
            // A topology names no recipe that does not exist.
            objects.retain(|name, path| own.contains_key(name) || path.is_dir());
        }
        Ok(Sent {
            text: placement::text(&topology, "Sent from another machine")?,
            objects,
        })
    }
}

/// A topology with objects in the place of files, and those files.
fn read(spec: &Spec, cancel: &CancellationToken) -> Result<(Mapping, BTreeMap<Digest, PathBuf>)> {
    let named = Named {
        cancel,
        found: RefCell::default(),
        failed: RefCell::default(),
    };
    let topology = written::topology(spec, &named);
    if let Some(error) = named.failed.into_inner() {
        return Err(error);
    }
    let found = named.found.into_inner().into_iter();
    Ok((topology, found.map(|(path, name)| (name, path)).collect()))
}

/// What an object is named by: a file's content and permissions, or all of a directory.
pub(super) fn name_of(path: &Path, cancel: &CancellationToken) -> Result<Digest> {
    let metadata =
        fs::metadata(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    if metadata.is_dir() {
        let index = tree::read(path, cancel)?;
        return Ok(Digest::of(
            format!("directory\n{}", index.text()).as_bytes(),
        ));
    }
    let mode = metadata.permissions().mode() & 0o777;
    let content = digest::of_file(path, cancel)?;
    Ok(Digest::of(format!("file {mode:o} {content}\n").as_bytes()))
}

/// Collects what is named while the topology is written.
struct Named<'a> {
    cancel: &'a CancellationToken,
    found: RefCell<BTreeMap<PathBuf, Digest>>,
    /// The first error.
    failed: RefCell<Option<anyhow::Error>>,
}

impl Named<'_> {
    /// Where the host has what is at a path of this one.
    fn there(&self, path: &Path) -> PathBuf {
        let mut found = self.found.borrow_mut();
        let name = match found.get(path) {
            Some(name) => name.clone(),
            None => match name_of(path, self.cancel) {
                Ok(name) => {
                    found.insert(path.to_owned(), name.clone());
                    name
                }
                Err(error) => {
                    self.failed.borrow_mut().get_or_insert(error);
                    return path.to_owned();
                }
            },
        };
        Path::new(OBJECTS).join(name.to_string())
    }
}

impl Sources for Named<'_> {
    fn images(&self, spec: &Spec) -> Mapping {
        let images = spec.images.iter().map(|(key, image)| {
            let source = match &image.source {
                ImageSource::Recipe(path) => ImageSource::Recipe(self.there(path)),
                ImageSource::Path { path, sha256 } => ImageSource::Path {
                    path: self.there(path),
                    sha256: sha256.clone(),
                },
                source @ (ImageSource::Builtin(_) | ImageSource::Url { .. }) => source.clone(),
            };
            let image = ImageSpec {
                source,
                ..image.clone()
            };
            (key.clone(), written::image(&image))
        });
        images.collect()
    }

    fn image(&self, domain: &DomainSpec) -> String {
        Here.image(domain)
    }

    fn rom(&self, domain: &DomainSpec) -> Value {
        let Firmware::Rom { path, sha256 } = &domain.firmware else {
            return Here.rom(domain);
        };
        json!({"rom": self.there(path), "sha256": sha256})
    }

    fn boot(&self, domain: &DomainSpec) -> Option<&'static str> {
        Here.boot(domain)
    }

    fn file(&self, path: &Path) -> Value {
        json!(self.there(path))
    }

    fn secret(&self, secret: &Secret) -> Value {
        match secret {
            Secret::Generate => Here.secret(secret),
            Secret::File(path) => Here.secret(&Secret::File(self.there(path))),
        }
    }

    fn tls(&self, tls: &FrontTls) -> Value {
        match tls {
            FrontTls::SelfSigned => Here.tls(tls),
            FrontTls::Files { cert, key } => Here.tls(&FrontTls::Files {
                cert: self.there(cert),
                key: self.there(key),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_another_name_after_any_change() {
        let folder = tempfile::tempdir().unwrap();
        let name = || name_of(folder.path(), &CancellationToken::new()).unwrap();
        let file = folder.path().join("file");
        let own = || name_of(&file, &CancellationToken::new()).unwrap();
        let mut names = vec![name()];
        fs::write(&file, "one").unwrap();
        names.extend([name(), own()]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        names.extend([name(), own()]);
        fs::write(&file, "two").unwrap();
        names.extend([name(), own()]);
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
    }
}
