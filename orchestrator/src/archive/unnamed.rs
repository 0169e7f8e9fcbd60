//! A file that has no name until it is whole: whatever ends the process, nothing is left.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;

use super::staging::sync_parent;

pub struct Unnamed {
    file: File,
    /// Where the file system has no files without a name: the name that it has meanwhile.
    partial: Option<PathBuf>,
}

impl Unnamed {
    /// Makes a file in the folder of `path`.
    pub fn create(path: &Path) -> Result<Unnamed> {
        let context = || format!("failed to write `{}`", path.display());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(Unnamed {
                file: file.into(),
                partial: None,
            }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let partial = beside(path);
                let flags = flags | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
                let file = rustix::fs::open(&partial, flags, mode).with_context(context)?;
                Ok(Unnamed {
                    file: file.into(),
                    partial: Some(partial),
                })
            }
            Err(error) => Err(error).with_context(context),
        }
    }

    /// Another handle of the file, to write with.
    pub fn handle(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// Gives the file its name, when all of it is on stable storage; says how long it is. Another file of that name is
    /// replaced with `force`, else it is an error.
    pub fn keep(mut self, path: &Path, force: bool) -> Result<u64> {
        let context = || format!("failed to write `{}`", path.display());
        self.file.sync_all().with_context(context)?;
        let length = self.file.metadata().with_context(context)?.len();
        let named = match self.partial.take() {
            Some(partial) => partial,
            None => {
                let named = if force { beside(path) } else { path.to_owned() };
                let own = format!(
                    "/proc/self/fd/{}",
                    std::os::fd::AsRawFd::as_raw_fd(&self.file)
                );
                if force {
                    crate::state::remove_if_there(&named)?;
                }
                linkat(CWD, own, CWD, &named, AtFlags::SYMLINK_FOLLOW).with_context(context)?;
                named
            }
        };
        if named != path {
            let flags = match force {
                true => rustix::fs::RenameFlags::empty(),
                false => rustix::fs::RenameFlags::NOREPLACE,
            };
            rustix::fs::renameat_with(CWD, &named, CWD, path, flags).with_context(context)?;
        }
        sync_parent(&std::path::absolute(path)?)?;
        Ok(length)
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // It is named as what it is: an unfinished file.
            let _ = std::fs::remove_file(partial);
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}
