//! Guest images: built from recipes or fetched, cached by digest.
//!
//! Owns what is under `<cache>/images`, and the NoCloud seeds that are made for an image. Where a
//! deployment keeps its files, and which images it names, is decided by the caller.

mod built;
pub(crate) mod cache;
mod fetch;
pub mod media;
mod nocloud;
pub(crate) mod recipe;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

pub use cache::{CachedImage, list, prune};
pub use nocloud::NoCloud;

use cache::Readers;
use fetch::Fetch;

use crate::disk::qcow2::Header;
use crate::event::Scope;
use pspd_model::definition::DirectKernel;
use pspd_model::spec::{Digest, ImageSource, ImageSpec, Seed, Size};

/// A read-only base that domains' system disks are overlays of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImage {
    /// Of the image's inputs (a recipe) or of the file itself.
    pub digest: Digest,
    /// A qcow2 file in the cache. Another build of a recipe has another name.
    pub disk: PathBuf,
    /// Present where the image can be booted by the hypervisor directly: an ELF kernel with a PVH entry, which QEMU's own
    /// SeaBIOS starts without unpacking it.
    pub kernel: Option<DirectKernel>,
    pub seed: Seed,
}

/// The file with an image's kernel as bzImage, for firmware other than QEMU's own SeaBIOS.
pub fn bz_image(kernel: &DirectKernel) -> PathBuf {
    kernel.kernel.with_file_name(cache::BZ_IMAGE)
}

/// The image, if it is cached; builds and fetches nothing.
pub fn cached(cache: &Path, image: &ImageSpec) -> Result<Option<GuestImage>> {
    let digest = digest(image)?;
    cache::Images::at(cache).open(&digest, image.seed)
}

/// The virtual size of an image's disk, if it is known: that of one by URL or of a recipe in a folder only once it is
/// cached.
pub fn size(cache: &Path, image: &ImageSpec) -> Result<Option<Size>> {
    // What is wrong with a file is said by the step that uses it.
    let of = |path: &Path| Header::open(path).ok().map(|header| header.size);
    if let Some(found) = cached(cache, image)? {
        return Ok(of(&found.disk));
    }
    Ok(match &image.source {
        ImageSource::Builtin(builtin) => Some(built::size(*builtin)),
        ImageSource::Path { path, .. } => of(path),
        ImageSource::Recipe(_) | ImageSource::Url { .. } => None,
    })
}

/// The cached image, built or fetched if it is missing. Blocks; `cancel` ends it and leaves no partial file.
pub fn ensure(
    cache: &Path,
    image: &ImageSpec,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<GuestImage> {
    let digest = digest(image)?;
    let images = cache::Images::at(cache);
    if let Some(found) = images.open(&digest, image.seed)? {
        if matches!(image.source, ImageSource::Path { .. }) {
            images.close(&digest)?;
        }
        return Ok(found);
    }
    let Some(partial) = images.begin(&digest, scope, cancel)? else {
        return images.require(&digest, image.seed);
    };
    let fetch = |wanted| Fetch {
        wanted,
        folder: partial.path(),
        scope,
        cancel,
    };
    match &image.source {
        ImageSource::Builtin(_) | ImageSource::Recipe(_) => {
            built::build(image, partial.path(), &images.log(&digest), scope, cancel)?;
            partial.name_by_content(cancel)?;
        }
        ImageSource::Path { path, sha256 } => {
            fetch(sha256).copy(path)?;
        }
        ImageSource::Url { url, sha256 } => {
            fetch(sha256).download(url)?;
        }
    }
    partial.commit(match &image.source {
        ImageSource::Path { .. } => Readers::Owner,
        _ => Readers::Everyone,
    })?;
    images.require(&digest, image.seed)
}

/// Where the disk of an image by path or URL with that digest is, or will be.
pub fn place(cache: &Path, digest: &Digest) -> PathBuf {
    cache.join("images").join(digest.as_str()).join(cache::DISK)
}

/// The digest by which an image is cached, known before it is built or fetched.
pub fn digest(image: &ImageSpec) -> Result<Digest> {
    match &image.source {
        ImageSource::Builtin(builtin) => Ok(built::with_packages(
            built::digest(*builtin),
            &image.packages,
        )),
        ImageSource::Recipe(recipe) => Ok(built::with_packages(
            recipe::digest(recipe)?,
            &image.packages,
        )),
        ImageSource::Path { sha256, .. } | ImageSource::Url { sha256, .. } => Ok(sha256.clone()),
    }
}
