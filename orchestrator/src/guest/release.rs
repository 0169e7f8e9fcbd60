//! A release: all files of a service, identified by one digest.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::spec::{Digest, Name, Spec};
use sha2::{Digest as _, Sha256};

use super::{executable, unit};
use crate::identity::{self, Certificate, Identity};

/// The files of a service, identified by a digest.
#[derive(Clone, Debug)]
pub struct Release {
    pub service: Name,
    /// The digest of every file's path, mode and content: binary, files, unit and environment.
    pub digest: Digest,
    pub files: Vec<ReleaseFile>,
    /// The programs that the guest must have to run the binary.
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
    ) -> anyhow::Result<Option<Release>> {
        let Some(files) = files(spec, domain, identity.folder())? else {
            return Ok(None);
        };
        let service = spec.domains[domain].service.as_ref();
        let needs = service.map(|service| executable::needs(&service.binary));
        Ok(Some(Release {
            needs: needs.transpose()?.unwrap_or_default(),
            service: domain.clone(),
            digest: digest(&files)?,
            files,
            certificate: identity.service(domain)?,
        }))
    }

    /// Computes the digest of a service's release, which does not depend on its certificate. `keys` is the folder of
    /// keys, which has the generated secrets.
    pub fn digest(spec: &Spec, domain: &Name, keys: &Path) -> anyhow::Result<Option<Digest>> {
        if let Some(service) = &spec.domains[domain].service {
            executable::needs(&service.binary)?;
        }
        let files = files(spec, domain, keys)?;
        files.map(|files| digest(&files)).transpose()
    }
}

/// The files of a service's release; `None` if the domain has no service.
fn files(spec: &Spec, domain: &Name, keys: &Path) -> anyhow::Result<Option<Vec<ReleaseFile>>> {
    let Some(service) = &spec.domains[domain].service else {
        return Ok(None);
    };
    let mut files = vec![ReleaseFile::host(
        domain.as_str().into(),
        0o755,
        &service.binary,
    )?];
    for (path, from) in &service.files {
        files.push(ReleaseFile::host(path.clone(), permissions(from)?, from)?);
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
        let secrets = unit::variables(&identity::secrets(keys, domain, service)?);
        files.push(ReleaseFile::text(unit::SECRETS, 0o600, secrets));
    }
    let volumes = &spec.domains[domain].volumes;
    if !volumes.is_empty() {
        let script = unit::mount_volumes(volumes, Some(unit::user(domain)));
        files.push(ReleaseFile::text(unit::MOUNT_VOLUMES, 0o755, script));
        let name = unit::volumes_file_name(domain);
        files.push(ReleaseFile::text(name, 0o644, unit::volumes_unit(domain)));
    }
    Ok(Some(files))
}

fn digest(files: &[ReleaseFile]) -> anyhow::Result<Digest> {
    let listed: Vec<_> = files
        .iter()
        .map(|file| (&file.path, file.mode, &file.digest))
        .collect();
    let listed =
        serde_json::to_vec(&listed).context("failed to compute the digest of a release")?;
    Ok(Digest::of(&listed))
}

impl ReleaseFile {
    /// Whether it is one of the `files` of the topology.
    pub fn is_of_user(&self, service: &Name) -> bool {
        matches!(self.content, Content::Host(_)) && self.path != Path::new(service.as_str())
    }

    fn host(path: PathBuf, mode: u32, from: &Path) -> anyhow::Result<ReleaseFile> {
        let digest =
            digest_file(from).with_context(|| format!("failed to read `{}`", from.display()))?;
        Ok(ReleaseFile {
            path,
            mode,
            digest,
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

fn digest_file(path: &Path) -> anyhow::Result<Digest> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(Digest::from(hasher))
}
