//! Folders that may be gone already.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;

/// Removes a folder with everything in it; a missing one is not an error.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_removed_once_and_its_absence_is_not_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir_all(folder.join("deep")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists());
        remove(&folder).unwrap();
    }

    #[test]
    fn a_failure_names_the_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = remove(file.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("failed to remove `{}`", file.path().display())
        );
    }
}
