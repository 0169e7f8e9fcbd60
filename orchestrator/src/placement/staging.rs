//! A folder that is filled under a temporary name. Its files cannot end up elsewhere, even if the folder is replaced.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::folder;

/// A folder being filled. Dropped without [`Staging::keep`], it is removed.
pub struct Staging {
    path: PathBuf,
    folder: OwnedFd,
    kept: bool,
}

impl Staging {
    /// Makes the folder; what an interrupted run left there is removed.
    pub fn create(path: &Path) -> Result<Staging> {
        let context = || format!("failed to create `{}`", path.display());
        folder::remove(path).context("failed to clean up after an earlier run")?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .with_context(context)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).with_context(context)?;
        Ok(Staging {
            path: path.to_owned(),
            folder,
            kept: false,
        })
    }

    /// Makes a file whose name is one component: never through a link, outside of the folder, or over another file.
    pub fn file(&self, name: &str) -> Result<File> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat2(&self.folder, name, flags, mode, resolve)
            .with_context(|| format!("failed to create `{}`", self.path.join(name).display()))?;
        Ok(File::from(file))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path of a name in this very folder, even if another took its place. It ends with the staging.
    pub fn within(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd())).join(name)
    }

    /// Puts the names of its files on stable storage.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.folder)
            .with_context(|| format!("failed to flush `{}`", self.path.display()))
    }

    /// Gives the folder its final name.
    pub fn keep(mut self, path: &Path) -> Result<()> {
        self.sync()?;
        fs::rename(&self.path, path)
            .with_context(|| format!("failed to name `{}`", path.display()))?;
        self.kept = true;
        sync_parent(path)
    }
}

/// Puts a name's change on stable storage.
pub fn sync_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("failed to flush `{}`", folder.display()))
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now, the next import removes, or fails to remove with an error.
            let _ = folder::remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_file_is_made_outside_or_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::create(&folder.path().join("staging")).unwrap();
        symlink(folder.path(), staging.path("link")).unwrap();
        staging.file("one").unwrap();
        for name in ["one", "link/two", "../two", "/two", "link", ""] {
            assert!(staging.file(name).is_err(), "{name}");
        }
        assert!(!folder.path().join("two").exists());
    }

    #[test]
    fn a_folder_that_takes_the_place_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("staging");
        let staging = Staging::create(&path).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), &path).unwrap();
        staging.file("one").unwrap();
        assert!(folder.path().join("moved/one").exists());
        assert_eq!(
            fs::read_dir(folder.path().join("elsewhere"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn what_is_not_kept_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::create(&folder.path().join("staging")).unwrap();
        staging.file("one").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let staging = Staging::create(&folder.path().join("staging")).unwrap();
        staging.file("one").unwrap();
        staging.keep(&folder.path().join("kept")).unwrap();
        assert!(folder.path().join("kept/one").exists());
    }
}
