//! The folder of images: one folder per digest, complete or not there.
//!
//! ```text
//! <cache>/images/<digest>/          an image; only ever renamed into place
//! <cache>/images/<digest>.partial/  being made, by the holder of the lock
//! <cache>/images/<digest>.lock      held while an image is made; stays, because removing a lock file races
//! <cache>/images/<digest>.log       what the recipe's last build said
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;

use super::{DirectKernel, GuestImage};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::spec::{Digest, Seed, Size};

pub const DISK: &str = "disk.qcow2";
pub const BZ_IMAGE: &str = "vmlinuz";
const KERNEL: &str = "vmlinux";
const INITRD: &str = "initrd";
const COMMAND_LINE: &str = "cmdline.txt";
const LOCK_POLL: Duration = Duration::from_millis(100);

/// An image that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedImage {
    pub digest: Digest,
    /// What its files take on the disk.
    pub size: Size,
}

/// All images in the cache, by digest.
pub fn list(cache: &Path) -> Result<Vec<CachedImage>> {
    Images::at(cache).list()
}

/// Removes the images that `keep` doesn't name, and returns what it removed.
///
/// An image that is being made is left alone. Overlays of a removed image no longer start, so `keep` must name the
/// images of every deployment on this host.
pub fn prune(cache: &Path, keep: &BTreeSet<Digest>) -> Result<Vec<CachedImage>> {
    prune_in(&Images::at(cache), keep)
}

/// [`prune`], of ROMs: `keep` must name those of every deployment.
pub fn prune_firmware(cache: &Path, keep: &BTreeSet<Digest>) -> Result<Vec<CachedImage>> {
    prune_in(&Images::firmware(cache), keep)
}

fn prune_in(images: &Images, keep: &BTreeSet<Digest>) -> Result<Vec<CachedImage>> {
    let mut removed = Vec::new();
    for image in images.list()? {
        if keep.contains(&image.digest) {
            continue;
        }
        let lock = images.lock_file(&image.digest)?;
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            continue;
        }
        // Renamed first: a removal that is cut short leaves no image that looks whole.
        let doomed = images.partial(&image.digest);
        discard(&doomed)?;
        let folder = images.folder(&image.digest);
        fs::rename(&folder, &doomed).with_context(|| format!("removing `{}`", folder.display()))?;
        discard(&doomed)?;
        removed.push(image);
    }
    Ok(removed)
}

/// The cache's folder of images.
pub struct Images(PathBuf);

impl Images {
    pub fn at(cache: &Path) -> Images {
        Images(cache.join("images"))
    }

    /// The cache's folder of ROMs, kept in the same way.
    pub fn firmware(cache: &Path) -> Images {
        Images(cache.join("firmware"))
    }

    pub fn folder(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.as_str())
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{digest}.partial"))
    }

    /// Where a recipe's build of `digest` writes what it says.
    pub fn log(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{digest}.log"))
    }

    fn lock_file(&self, digest: &Digest) -> Result<File> {
        let path = self.0.join(format!("{digest}.lock"));
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening `{}`", path.display()))
    }

    /// The image, if it is there.
    pub fn open(&self, digest: &Digest, seed: Seed) -> Result<Option<GuestImage>> {
        let folder = self.folder(digest);
        let disk = folder.join(DISK);
        if !folder
            .try_exists()
            .with_context(|| format!("looking for `{}`", folder.display()))?
        {
            return Ok(None);
        }
        if !disk.is_file() {
            bail!(
                "the cached image `{}` has no `{DISK}`: remove that folder",
                folder.display()
            );
        }
        Ok(Some(GuestImage {
            digest: digest.clone(),
            kernel: direct_kernel(&folder)?,
            disk,
            seed,
        }))
    }

    /// The image, which was just made.
    pub fn require(&self, digest: &Digest, seed: Seed) -> Result<GuestImage> {
        self.open(digest, seed)?.with_context(|| {
            format!(
                "image `{}` is gone again: was the cache pruned?",
                digest.short()
            )
        })
    }

    /// Takes the lock on `digest`, waiting for another holder, and makes an empty folder to fill.
    ///
    /// `None` if the image is there once the lock is: the other holder made it.
    pub fn begin(
        &self,
        digest: &Digest,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Result<Option<Partial>> {
        fs::create_dir_all(&self.0).with_context(|| format!("creating `{}`", self.0.display()))?;
        let lock = self.lock_file(digest)?;
        let mut waiting = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("locking image `{}`", digest.short()));
                }
            }
            if cancel.is_cancelled() {
                bail!(Cancelled::during(format_args!(
                    "another pspd makes the image `{}`",
                    digest.short()
                )));
            }
            if !waiting {
                scope.stage("waiting for another pspd that makes this image");
                waiting = true;
            }
            sleep(LOCK_POLL);
        }
        let folder = self.folder(digest);
        if folder.exists() {
            return Ok(None);
        }
        let partial = self.partial(digest);
        // Left by a process that was killed: nobody else holds the lock.
        discard(&partial)?;
        fs::create_dir(&partial).with_context(|| format!("creating `{}`", partial.display()))?;
        Ok(Some(Partial {
            partial,
            folder,
            _lock: lock,
        }))
    }

    pub fn list(&self) -> Result<Vec<CachedImage>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("listing `{}`", self.0.display()))?,
        };
        let mut images = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("listing `{}`", self.0.display()))?;
            let name = entry.file_name();
            if let Some(digest) = name.to_str().and_then(|name| Digest::parse(name).ok()) {
                images.push(CachedImage {
                    digest,
                    size: size_on_disk(&entry.path())?,
                });
            }
        }
        images.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(images)
    }
}

/// A folder being filled, under its image's lock. Dropped without [`Partial::commit`], it is removed.
pub struct Partial {
    partial: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Partial {
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Makes the folder the image: all of it at once, and read-only, for overlays depend on every byte.
    pub fn commit(self) -> Result<()> {
        for entry in fs::read_dir(&self.partial)
            .with_context(|| format!("listing `{}`", self.partial.display()))?
        {
            let path = entry?.path();
            let file =
                File::open(&path).with_context(|| format!("opening `{}`", path.display()))?;
            file.sync_all()
                .with_context(|| format!("flushing `{}`", path.display()))?;
            let mut permissions = file.metadata()?.permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions)
                .with_context(|| format!("write-protecting `{}`", path.display()))?;
        }
        fs::rename(&self.partial, &self.folder)
            .with_context(|| format!("moving the image to `{}`", self.folder.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A failure leaves a folder that the next `begin` removes, or says why it can't.
        let _ = discard(&self.partial);
    }
}

fn direct_kernel(folder: &Path) -> Result<Option<DirectKernel>> {
    let kernel = folder.join(KERNEL);
    if !kernel.exists() {
        return Ok(None);
    }
    let initrd = Some(folder.join(INITRD)).filter(|path| path.exists());
    let path = folder.join(COMMAND_LINE);
    let cmdline =
        fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
    Ok(Some(DirectKernel {
        kernel,
        initrd,
        cmdline: cmdline.trim().to_owned(),
    }))
}

fn size_on_disk(folder: &Path) -> Result<Size> {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("listing `{}`", folder.display()))? {
        blocks += entry?.metadata()?.blocks();
    }
    Ok(Size(blocks * 512))
}

/// Removes a folder, also where a recipe's build that was killed left files of subordinate users in it.
fn discard(folder: &Path) -> Result<()> {
    let context = || format!("removing `{}`", folder.display());
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let status = Command::new("unshare")
                .args(["--map-root-user", "--map-auto", "--", "rm", "-rf"])
                .arg(folder)
                .status()
                .with_context(context)?;
            if status.success() {
                Ok(())
            } else {
                Err(error).with_context(context)
            }
        }
        Err(error) => Err(error).with_context(context),
    }
}
