//! A release: all files of a service, identified by one digest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Digest, Name, Program, ServiceSpec, Spec};
use tokio_util::sync::CancellationToken;

use super::{executable, unit};
use crate::digest;
use crate::identity::{self, Certificate, Identity};
use crate::tree::{self, Index};

/// The files of a service, identified by a digest.
#[derive(Clone, Debug)]
pub struct Release {
    pub service: Name,
    /// The digest of every file's path, mode and content: binary, files, directories, unit and environment.
    pub digest: Digest,
    pub files: Vec<ReleaseFile>,
    pub trees: Vec<ReleaseTree>,
    /// The programs that the guest must have to run the service.
    pub needs: Vec<String>,
    /// Not covered by the digest, because it is renewed without a restart.
    pub certificate: Certificate,
}

#[derive(Clone, Debug)]
pub struct ReleaseFile {
    /// The path in the guest: absolute, or relative to the release's directory.
    pub path: PathBuf,
    pub mode: u32,
    pub digest: Digest,
    pub content: Content,
}

/// A directory of a release.
#[derive(Clone, Debug)]
pub struct ReleaseTree {
    /// The path in the release's directory.
    pub path: PathBuf,
    /// The directory on this host.
    pub folder: PathBuf,
    pub index: Index,
}

#[derive(Clone, Debug)]
pub enum Content {
    Host(PathBuf),
    Text(String),
}

impl Release {
    /// Reads a service's files and its keys; returns `None` if the domain has no service.
    pub fn assemble(
        spec: &Spec,
        domain: &Name,
        identity: &Identity,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Option<Release>> {
        let Some(service) = &spec.domains[domain].service else {
            return Ok(None);
        };
        let trees = trees(service, cancel)?;
        let files = files(spec, domain, service, identity.folder(), cancel)?;
        Ok(Some(Release {
            needs: needs(service, &trees)?,
            service: domain.clone(),
            digest: digest_of(&files, &trees)?,
            files,
            trees,
            certificate: identity.service(domain)?,
        }))
    }

    /// Computes the digest of a service's release, which does not depend on its certificate. `keys` is the folder of
    /// keys, which has the generated secrets.
    pub fn digest(
        spec: &Spec,
        domain: &Name,
        keys: &Path,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Option<Digest>> {
        let Some(service) = &spec.domains[domain].service else {
            return Ok(None);
        };
        let trees = trees(service, cancel)?;
        needs(service, &trees)?;
        let files = files(spec, domain, service, keys, cancel)?;
        digest_of(&files, &trees).map(Some)
    }

    /// Whether commands prepare it before it is started.
    pub fn has_setup(&self) -> bool {
        self.files
            .iter()
            .any(|file| file.path == Path::new(unit::SETUP))
    }
}

/// The directories among a service's files.
fn trees(service: &ServiceSpec, cancel: &CancellationToken) -> anyhow::Result<Vec<ReleaseTree>> {
    let folders = service.files.iter().filter(|(_, from)| from.is_dir());
    let trees = folders.map(|(path, folder)| {
        Ok(ReleaseTree {
            path: path.clone(),
            folder: folder.clone(),
            index: tree::read(folder, cancel)?,
        })
    });
    trees.collect()
}

/// The programs of the guest that a service runs. Fails if no guest can run it.
fn needs(service: &ServiceSpec, trees: &[ReleaseTree]) -> anyhow::Result<Vec<String>> {
    let mut needs = match &service.program {
        Program::Binary(path) => executable::needs(path)?,
        Program::Command(words) => match pushed(service, trees, &words[0])? {
            Some(path) => executable::needs(&path)?,
            None => vec![words[0].clone()],
        },
    };
    let programs = service.setup.iter().map(|command| &command[0]);
    needs.extend(programs.filter(|program| !program.contains('/')).cloned());
    Ok(needs)
}

/// The file on this host that a command runs in the release; `None` if it is a program of the guest.
fn pushed(
    service: &ServiceSpec,
    trees: &[ReleaseTree],
    program: &str,
) -> anyhow::Result<Option<PathBuf>> {
    if !unit::is_in_release(program) {
        return Ok(None);
    }
    let (path, mode) = match service.files.get(Path::new(program)) {
        Some(path) => (path.clone(), permissions(path)?),
        None => {
            let found = trees.iter().find_map(|tree| {
                let below = Path::new(program).strip_prefix(&tree.path).ok()?;
                let mode = tree.index.file(below.to_str()?)?;
                Some((tree.folder.join(below), mode))
            });
            found.with_context(|| {
                format!("the service's command is `{program}`, and its `files` have no such file")
            })?
        }
    };
    ensure!(
        mode & 0o100 != 0,
        Hinted::new(
            format!("the service's command is `{program}`, which is not executable"),
            format!("Run `chmod +x {}`", path.display()),
        )
    );
    Ok(Some(path))
}

/// The files of a service's release.
fn files(
    spec: &Spec,
    domain: &Name,
    service: &ServiceSpec,
    keys: &Path,
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<ReleaseFile>> {
    let mut files = Vec::new();
    if let Program::Binary(binary) = &service.program {
        files.push(ReleaseFile::host(
            domain.as_str().into(),
            0o755,
            binary,
            cancel,
        )?);
    }
    for (path, from) in service.files.iter().filter(|(_, from)| !from.is_dir()) {
        files.push(ReleaseFile::host(
            path.clone(),
            permissions(from)?,
            from,
            cancel,
        )?);
    }
    files.extend([
        ReleaseFile::text(
            unit::file_name(domain),
            0o644,
            unit::unit(spec, domain, service),
        ),
        ReleaseFile::text(
            unit::ENVIRONMENT,
            0o644,
            unit::environment(spec, domain, service),
        ),
    ]);
    if !service.secrets.is_empty() {
        let secrets = unit::secrets(&identity::secrets(keys, domain, service)?);
        files.push(ReleaseFile::text(unit::SECRETS, 0o600, secrets));
    }
    if !service.setup.is_empty() {
        let script = unit::setup(&service.setup);
        files.push(ReleaseFile::text(unit::SETUP, 0o755, script));
    }
    let volumes = &spec.domains[domain].volumes;
    if !volumes.is_empty() {
        let script = unit::mount_volumes(volumes, Some(unit::user(domain)));
        files.push(ReleaseFile::text(unit::MOUNT_VOLUMES, 0o755, script));
        let name = unit::volumes_file_name(domain);
        files.push(ReleaseFile::text(name, 0o644, unit::volumes_unit(domain)));
    }
    Ok(files)
}

fn digest_of(files: &[ReleaseFile], trees: &[ReleaseTree]) -> anyhow::Result<Digest> {
    let files = files
        .iter()
        .map(|file| (&file.path, file.mode, &file.digest));
    // No file has this mode.
    let trees = trees.iter().map(|tree| (&tree.path, 0, &tree.index.digest));
    let listed: Vec<_> = files.chain(trees).collect();
    let listed =
        serde_json::to_vec(&listed).context("failed to compute the digest of a release")?;
    Ok(Digest::of(&listed))
}

impl ReleaseFile {
    /// Whether it is one of the `files` of the topology.
    pub fn is_of_user(&self, service: &Name) -> bool {
        matches!(self.content, Content::Host(_)) && self.path != Path::new(service.as_str())
    }

    /// In bytes.
    pub(super) fn size(&self) -> anyhow::Result<u64> {
        match &self.content {
            Content::Text(text) => Ok(text.len() as u64),
            Content::Host(from) => {
                let read = || format!("failed to read `{}`", from.display());
                Ok(from.metadata().with_context(read)?.len())
            }
        }
    }

    fn host(
        path: PathBuf,
        mode: u32,
        from: &Path,
        cancel: &CancellationToken,
    ) -> anyhow::Result<ReleaseFile> {
        Ok(ReleaseFile {
            path,
            mode,
            digest: digest::of_file(from, cancel)?,
            content: Content::Host(from.to_owned()),
        })
    }

    fn text(path: impl Into<PathBuf>, mode: u32, text: String) -> ReleaseFile {
        ReleaseFile {
            path: path.into(),
            mode,
            digest: Digest::of(text.as_bytes()),
            content: Content::Text(text),
        }
    }
}

/// A file's permission bits, without set-user-id and the like.
fn permissions(path: &Path) -> anyhow::Result<u32> {
    let file =
        fs::metadata(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(file.permissions().mode() & 0o777)
}
