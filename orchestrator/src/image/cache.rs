//! The folder of images: one folder per digest, complete or absent.
//!
//! ```text
//! <cache>/images/<digest>/          an image; only ever renamed into place
//!   disk.qcow2                      of an image by path or URL, whose digest is the folder's
//!   disk.<digest>.qcow2             of a recipe, with the digest of this build: an overlay names the build that it needs
//! <cache>/images/<digest>.partial/  being made, by the holder of the lock
//! <cache>/images/<digest>.lock      held while an image is made; stays, because removing a lock file races
//! <cache>/images/<digest>.log       the output of the recipe's last build
//! <cache>/users/<digest>            the path of a state directory whose deployments use the cache
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pspd_model::definition::DirectKernel;
use pspd_model::hint::Hint as _;
use pspd_model::spec::{Digest, Seed, Size};
use tokio_util::sync::CancellationToken;

use super::GuestImage;
use crate::cancelled::Cancelled;
use crate::digest;
use crate::event::Scope;
use crate::folder;
use crate::held::Held;

pub(crate) const DISK: &str = "disk.qcow2";
pub(crate) const BZ_IMAGE: &str = "vmlinuz";
const KERNEL: &str = "vmlinux";
const INITRD: &str = "initrd";
const COMMAND_LINE: &str = "cmdline.txt";
const LOCK_POLL: Duration = Duration::from_millis(100);

/// An image that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedImage {
    pub digest: Digest,
    /// The room that its files take on the disk.
    pub size: Size,
}

/// All images in the cache, by digest.
pub fn list(cache: &Path) -> Result<Vec<CachedImage>> {
    Images::at(cache).list()
}

/// Removes the images that `keep` does not name, and returns what it removed.
///
/// An image that is being made is left alone. Overlays of a removed image no longer start, so `keep` must name the
/// images of every deployment on this host.
pub fn prune(cache: &Path, keep: &BTreeSet<Digest>) -> Result<Vec<CachedImage>> {
    Images::at(cache).prune(keep)
}

/// A folder of images, or of ROMs, which are kept in the same way.
pub(crate) struct Images(PathBuf);

impl Images {
    /// The cache's folder of images.
    pub(crate) fn at(cache: &Path) -> Images {
        Images::in_folder(cache.join("images"))
    }

    pub(crate) fn in_folder(folder: PathBuf) -> Images {
        Images(folder)
    }

    pub(crate) fn folder(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.as_str())
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{digest}.partial"))
    }

    /// Where a recipe's build of `digest` writes its output.
    pub(crate) fn log(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{digest}.log"))
    }

    fn lock_file(&self, digest: &Digest) -> Result<File> {
        let path = self.0.join(format!("{digest}.lock"));
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to open `{}`", path.display()))
    }

    /// The image, if it is cached.
    pub(crate) fn open(&self, digest: &Digest, seed: Seed) -> Result<Option<GuestImage>> {
        let folder = self.folder(digest);
        if !folder
            .try_exists()
            .with_context(|| format!("failed to look for `{}`", folder.display()))?
        {
            return Ok(None);
        }
        let Some(disk) = disk_in(&folder)? else {
            bail!(
                "the cached image `{}` has no `{DISK}`; remove that folder",
                folder.display()
            );
        };
        Ok(Some(GuestImage {
            digest: digest.clone(),
            kernel: direct_kernel(&folder)?,
            disk,
            seed,
        }))
    }

    /// Closes a copy to others that an earlier version left open.
    pub(crate) fn close(&self, digest: &Digest) -> Result<()> {
        let folder = self.folder(digest);
        let context = || format!("failed to look for `{}`", folder.display());
        let metadata = fs::metadata(&folder).with_context(context)?;
        let wanted = Readers::Owner.folder_mode();
        if metadata.permissions().mode() & 0o777 == wanted {
            return Ok(());
        }
        Readers::Owner.restrict(&folder, |_, _| Ok(()))
    }

    /// The image, which must be cached: it was just made.
    pub(crate) fn require(&self, digest: &Digest, seed: Seed) -> Result<GuestImage> {
        self.open(digest, seed)?.with_context(|| {
            format!(
                "the image `{}` disappeared from the cache; run the command again",
                digest.short()
            )
        })
    }

    /// Takes the lock on `digest`, waiting for another holder, and makes an empty folder to fill.
    ///
    /// `None` if the other holder has made the image meanwhile.
    pub(crate) fn begin(
        &self,
        digest: &Digest,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Result<Option<Partial>> {
        fs::create_dir_all(&self.0)
            .with_context(|| format!("failed to create `{}`", self.0.display()))
            .hint("Pass `--cache-dir` to choose another directory")?;
        let lock = self.lock_file(digest)?;
        let mut waiting = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("failed to lock the image `{}`", digest.short()));
                }
            }
            if cancel.is_cancelled() {
                bail!(Cancelled::during(format_args!(
                    "waiting for another pspd process that makes the image `{}`",
                    digest.short()
                )));
            }
            if !waiting {
                scope.stage("waiting for another pspd process that makes this image");
                waiting = true;
            }
            sleep(LOCK_POLL);
        }
        let lock = Held::new(lock);
        let folder = self.folder(digest);
        if folder.exists() {
            return Ok(None);
        }
        let partial = self.partial(digest);
        // Left by a process that was killed: nobody else holds the lock.
        discard(&partial)?;
        // Closed until it is complete: what is fetched may have private keys.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&partial)
            .with_context(|| format!("failed to create `{}`", partial.display()))?;
        Ok(Some(Partial {
            partial,
            folder,
            _lock: lock,
        }))
    }

    pub(crate) fn list(&self) -> Result<Vec<CachedImage>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("failed to list `{}`", self.0.display()))?,
        };
        let mut images = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to list `{}`", self.0.display()))?;
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

    /// Removes what `keep` does not name, except an image that is being made.
    pub(crate) fn prune(&self, keep: &BTreeSet<Digest>) -> Result<Vec<CachedImage>> {
        let mut removed = Vec::new();
        for image in self.list()? {
            if keep.contains(&image.digest) {
                continue;
            }
            let lock = self.lock_file(&image.digest)?;
            if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            let _lock = Held::new(lock);
            // Renamed first: an interrupted removal leaves no folder that looks complete.
            let doomed = self.partial(&image.digest);
            discard(&doomed)?;
            let folder = self.folder(&image.digest);
            fs::rename(&folder, &doomed)
                .with_context(|| format!("failed to remove `{}`", folder.display()))?;
            discard(&doomed)?;
            removed.push(image);
        }
        Ok(removed)
    }
}

/// A folder being filled, under its image's lock. Dropped without [`Partial::commit`], it is removed.
pub(crate) struct Partial {
    partial: PathBuf,
    folder: PathBuf,
    _lock: Held,
}

/// Who may read an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// What a recipe builds or a URL offers has no secrets.
    Everyone,
    /// A copy of a file of this host, such as an imported disk with keys. A hypervisor that runs as a separate user
    /// gets the file from libvirt, so that it must be able to enter the folder.
    Owner,
}

impl Readers {
    /// A program, such as one that a recipe leaves for later, stays one.
    fn file_mode(self, built: u32) -> u32 {
        let (read, run) = match self {
            Readers::Everyone => (0o444, 0o111),
            Readers::Owner => (0o400, 0o100),
        };
        read | (built & run)
    }

    fn folder_mode(self) -> u32 {
        match self {
            Readers::Everyone => 0o755,
            Readers::Owner => 0o711,
        }
    }

    /// Sets the permissions of a folder and its files; passes each open file to `each` first.
    fn restrict(self, folder: &Path, each: impl Fn(&File, &Path) -> Result<()>) -> Result<()> {
        let context =
            |path: &Path| format!("failed to set the permissions of `{}`", path.display());
        for entry in fs::read_dir(folder)
            .with_context(|| format!("failed to list `{}`", folder.display()))?
        {
            let path = entry?.path();
            let file = File::open(&path)
                .with_context(|| format!("failed to open `{}`", path.display()))?;
            each(&file, &path)?;
            let built = file.metadata().with_context(|| context(&path))?;
            let mode = self.file_mode(built.permissions().mode());
            file.set_permissions(Permissions::from_mode(mode))
                .with_context(|| context(&path))?;
        }
        fs::set_permissions(folder, Permissions::from_mode(self.folder_mode()))
            .with_context(|| context(folder))
    }
}

impl Partial {
    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Names the disk by its content: two builds of one recipe differ.
    pub(crate) fn name_by_content(&self, cancel: &CancellationToken) -> Result<()> {
        let disk = self.partial.join(DISK);
        let named = self.partial.join(built(&digest::of_file(&disk, cancel)?));
        fs::rename(&disk, &named).with_context(|| format!("failed to name `{}`", named.display()))
    }

    /// Makes the folder the image: all of it at once, and read-only, for overlays depend on every byte.
    pub(crate) fn commit(self, readers: Readers) -> Result<()> {
        readers.restrict(&self.partial, |file, path| {
            file.sync_all()
                .with_context(|| format!("failed to flush `{}`", path.display()))
        })?;
        fs::rename(&self.partial, &self.folder)
            .with_context(|| format!("failed to move the image to `{}`", self.folder.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A failure leaves a folder that the next `begin` removes, or fails to remove with an error.
        let _ = discard(&self.partial);
    }
}

/// The disk of a recipe's build with this digest.
fn built(content: &Digest) -> String {
    format!("disk.{content}.qcow2")
}

/// The disk of an image; `None` if there is none. Builds of earlier versions are named like images by path.
fn disk_in(folder: &Path) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))?;
    let is_built = |name: &str| {
        let digest = name.strip_prefix("disk.")?.strip_suffix(".qcow2")?;
        Digest::parse(digest).ok()
    };
    let mut found = None;
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list `{}`", folder.display()))?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if entry.path().is_file() && (name == DISK || is_built(name).is_some()) {
            found = Some(entry.path());
        }
    }
    Ok(found)
}

fn direct_kernel(folder: &Path) -> Result<Option<DirectKernel>> {
    let kernel = folder.join(KERNEL);
    if !kernel.exists() {
        return Ok(None);
    }
    let initrd = Some(folder.join(INITRD)).filter(|path| path.exists());
    let path = folder.join(COMMAND_LINE);
    let cmdline = fs::read_to_string(&path)
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(Some(DirectKernel {
        kernel,
        initrd,
        cmdline: cmdline.trim().to_owned(),
    }))
}

fn size_on_disk(folder: &Path) -> Result<Size> {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    for entry in
        fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))?
    {
        blocks += entry?.metadata()?.blocks();
    }
    Ok(Size(blocks * 512))
}

/// Removes a folder, even if a killed build of a recipe left files of subordinate users in it.
fn discard(folder: &Path) -> Result<()> {
    let removed = folder::remove(folder);
    let denied = |error: &anyhow::Error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    if !removed.as_ref().is_err_and(denied) {
        return removed;
    }
    let status = Command::new("unshare")
        .args(["--map-root-user", "--map-auto", "--", "rm", "-rf"])
        .arg(folder)
        .status()
        .with_context(|| format!("failed to remove `{}`", folder.display()))?;
    if status.success() { Ok(()) } else { removed }
}
