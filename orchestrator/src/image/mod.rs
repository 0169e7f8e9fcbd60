//! Guest images: built from recipes or fetched, cached by digest.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::event::Scope;
use crate::spec::{Digest, ImageSpec, Seed};

/// A read-only base that domains' system disks are overlays of.
#[derive(Clone, Debug)]
pub struct GuestImage {
    /// Of the image's inputs (a recipe) or of the file itself.
    pub digest: Digest,
    /// A qcow2 file in the cache.
    pub disk: PathBuf,
    /// Present where the image can be booted by the hypervisor directly.
    pub kernel: Option<DirectKernel>,
    pub seed: Seed,
}

/// What `boot: kernel` hands to the hypervisor.
#[derive(Clone, Debug)]
pub struct DirectKernel {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
}

/// The cached image, if it is there; builds and fetches nothing.
pub fn cached(cache: &Path, image: &ImageSpec) -> anyhow::Result<Option<GuestImage>> {
    let _ = (cache, image);
    unimplemented!()
}

/// The cached image, built or fetched if it is not there. Blocks; `cancel` ends it and leaves no partial file.
pub fn ensure(
    cache: &Path,
    image: &ImageSpec,
    scope: &Scope,
    cancel: &CancellationToken,
) -> anyhow::Result<GuestImage> {
    let _ = (cache, image, scope, cancel);
    unimplemented!()
}

pub fn digest(image: &ImageSpec) -> anyhow::Result<Digest> {
    let _ = image;
    unimplemented!()
}
pub fn create_overlay(base: &Path, path: &Path, size: crate::spec::Size) -> anyhow::Result<()> {
    let _ = (base, path, size);
    unimplemented!()
}
pub fn create_volume(path: &Path, size: crate::spec::Size) -> anyhow::Result<()> {
    let _ = (path, size);
    unimplemented!()
}
pub fn grow(path: &Path, size: crate::spec::Size) -> anyhow::Result<()> {
    let _ = (path, size);
    unimplemented!()
}
pub fn write_seed(
    path: &Path,
    spec: &crate::spec::Spec,
    domain: &crate::spec::DomainSpec,
    identity: &crate::identity::Identity,
) -> anyhow::Result<()> {
    let _ = (path, spec, domain, identity);
    unimplemented!()
}
