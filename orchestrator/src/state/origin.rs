//! Where a deployment came from: the topology file of its last `up`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{Home, files};

impl Home {
    /// The topology file of the last `up`, an absolute path without links; `None` where no `up` recorded it, or the record
    /// is damaged.
    pub fn origin(&self) -> anyhow::Result<Option<PathBuf>> {
        let path = files::read_if_there(&self.origin_file())?;
        let path = path.map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
        Ok(path.filter(|path| path.is_absolute()))
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

#[cfg(test)]
mod tests {
    use pspd_model::spec::Name;

    use super::super::Paths;
    use super::*;

    #[test]
    fn a_damaged_record_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(Some(folder.path().into()), Some(folder.path().into())).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        home.record_origin(Path::new("/shop/topology.yaml"))
            .unwrap();
        let recorded = home.origin().unwrap();
        assert_eq!(recorded.as_deref(), Some(Path::new("/shop/topology.yaml")));
        for damaged in ["", "{\"damaged\""] {
            std::fs::write(home.path().join("origin"), damaged).unwrap();
            assert_eq!(home.origin().unwrap(), None, "{damaged}");
        }
    }
}
