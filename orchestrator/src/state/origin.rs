//! Where a deployment came from: the topology file of its last `up`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{Home, files};

impl Home {
    /// The topology file of the last `up`, an absolute path without links; `None` where no `up` recorded it.
    pub fn origin(&self) -> anyhow::Result<Option<PathBuf>> {
        let path = files::read_if_there(&self.origin_file())?;
        Ok(path.map(|bytes| PathBuf::from(OsString::from_vec(bytes))))
    }

    pub fn record_origin(&self, file: &Path) -> anyhow::Result<()> {
        files::write_atomically(&self.origin_file(), file.as_os_str().as_bytes(), 0o600)
    }

    fn origin_file(&self) -> PathBuf {
        self.path().join("origin")
    }
}

/// Resolves the directory of a topology file, so that one directory has one path. The file itself may be missing.
pub fn resolved(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    let folder = file.parent()?;
    // A directory that was removed keeps the path by which it was recorded.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    Some(folder.join(file.file_name()?))
}
