//! Guest images: built from recipes or fetched, cached by digest.
//!
//! Owns what is under `<cache>/images` and the files made from an image: overlays, volumes, NoCloud seeds. Where a
//! deployment keeps those files, and which images it names, is the caller's.

mod cache;
mod disk;
mod fetch;
mod nocloud;
mod qcow2;
mod recipe;
#[cfg(test)]
mod tests;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

pub use cache::{CachedImage, list, prune};
pub use disk::{create_overlay, create_volume, grow};
pub use nocloud::NoCloud;

use crate::event::Scope;
use crate::spec::{Digest, ImageSource, ImageSpec, Seed};

/// A read-only base that domains' system disks are overlays of.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectKernel {
    /// An ELF kernel with a PVH entry, which SeaBIOS and coreboot's SeaBIOS payload start.
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
}

impl DirectKernel {
    /// The same kernel as bzImage, which UEFI firmware needs: it starts no ELF file.
    pub fn bz_image(&self) -> PathBuf {
        self.kernel.with_file_name(cache::BZ_IMAGE)
    }
}

/// The cached image, if it is there; builds and fetches nothing.
pub fn cached(cache: &Path, image: &ImageSpec) -> Result<Option<GuestImage>> {
    let digest = digest(&image.source)?;
    cache::Images::at(cache).open(&digest, image.seed)
}

/// The cached image, built or fetched if it is not there. Blocks; `cancel` ends it and leaves no partial file.
pub fn ensure(
    cache: &Path,
    image: &ImageSpec,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<GuestImage> {
    let digest = digest(&image.source)?;
    let images = cache::Images::at(cache);
    if let Some(found) = images.open(&digest, image.seed)? {
        return Ok(found);
    }
    let Some(partial) = images.begin(&digest, scope, cancel)? else {
        return images.require(&digest, image.seed);
    };
    match &image.source {
        ImageSource::Recipe(recipe) => {
            recipe::build(recipe, partial.path(), &images.log(&digest), scope, cancel)?;
        }
        ImageSource::Path { path, sha256 } => {
            fetch::copy(path, sha256, partial.path(), scope, cancel)?;
        }
        ImageSource::Url { url, sha256 } => {
            fetch::download(url, sha256, partial.path(), scope, cancel)?;
        }
    }
    partial.commit()?;
    images.require(&digest, image.seed)
}

/// The digest by which an image is cached, known before it is built or fetched.
pub fn digest(source: &ImageSource) -> Result<Digest> {
    match source {
        ImageSource::Recipe(recipe) => recipe::digest(recipe),
        ImageSource::Path { sha256, .. } | ImageSource::Url { sha256, .. } => Ok(sha256.clone()),
    }
}
