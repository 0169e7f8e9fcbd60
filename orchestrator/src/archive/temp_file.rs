//! A file that has no name until it is complete: however the process ends, nothing is left.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pspd_model::plan::Existing;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

use crate::placement::sync_parent;
use crate::state::remove_if_there;

pub(super) struct TempFile {
    file: File,
    /// The temporary name, on a file system that has no files without a name.
    partial: Option<PathBuf>,
}

impl TempFile {
    /// Makes a file in the folder of `path`.
    pub(super) fn create(path: &Path) -> Result<TempFile> {
        let context = || format!("failed to write `{}`", path.display());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(TempFile {
                file: file.into(),
                partial: None,
            }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let partial = beside(path);
                let flags = flags | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
                let file = rustix::fs::open(&partial, flags, mode).with_context(context)?;
                Ok(TempFile {
                    file: file.into(),
                    partial: Some(partial),
                })
            }
            Err(error) => Err(error).with_context(context),
        }
    }

    /// Another handle to the file, for writing.
    pub(super) fn handle(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// Gives the file its name, after all of it is on stable storage. Returns its length in bytes.
    pub(super) fn keep(mut self, path: &Path, existing: Existing) -> Result<u64> {
        let context = || format!("failed to write `{}`", path.display());
        self.file.sync_all().with_context(context)?;
        let length = self.file.metadata().with_context(context)?.len();
        let named = match self.partial.take() {
            Some(partial) => partial,
            None => {
                let named = match existing {
                    Existing::Refuse => path.to_owned(),
                    Existing::Replace => {
                        let temporary = beside(path);
                        remove_if_there(&temporary)?;
                        temporary
                    }
                };
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, own, CWD, &named, AtFlags::SYMLINK_FOLLOW).with_context(context)?;
                named
            }
        };
        if named != path {
            let flags = match existing {
                Existing::Refuse => RenameFlags::NOREPLACE,
                Existing::Replace => RenameFlags::empty(),
            };
            renameat_with(CWD, &named, CWD, path, flags).with_context(context)?;
        }
        sync_parent(&std::path::absolute(path)?)?;
        Ok(length)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // If it stays, its name marks it as unfinished.
            let _ = std::fs::remove_file(partial);
        }
    }
}

/// The temporary name, in the same folder.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}
