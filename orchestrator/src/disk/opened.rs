//! Which file a domain opened as a disk, and what is at its path now.

use std::path::Path;

use anyhow::Result;
use pspd_model::observed::Attached;

use super::qcow2::stamp;
use crate::state::{FileIdentity, OpenedFile};

/// Reads what a domain is about to open; `None` if the file does not exist.
pub fn opened(path: &Path) -> Result<Option<OpenedFile>> {
    let Some(file) = FileIdentity::at(path)? else {
        return Ok(None);
    };
    let stamp = stamp::of(path)?;
    Ok(Some(OpenedFile { file, stamp }))
}

/// What is at a path now, where a file was opened. Without a record, any file is taken for it.
pub fn compare(opened: Option<OpenedFile>, path: &Path) -> Result<Attached> {
    let Some(now) = FileIdentity::at(path)? else {
        return Ok(Attached::Missing);
    };
    Ok(match opened {
        Some(opened) if now != opened.file => Attached::Replaced,
        Some(opened) if is_overwritten(&opened, path)? => Attached::Overwritten,
        _ => Attached::Same,
    })
}

/// Whether the file at a path is one that was opened, with the content of another.
pub fn is_overwritten(opened: &OpenedFile, path: &Path) -> Result<bool> {
    let is_it = FileIdentity::at(path)? == Some(opened.file);
    Ok(is_it && opened.stamp.is_some() && stamp::of(path)? != opened.stamp)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use pspd_model::spec::Size;

    use super::*;
    use crate::disk;

    #[test]
    fn a_file_differs_from_one_that_replaced_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        disk::create(&path, Size::mib(1)).unwrap();
        // As a process has it.
        let _open = File::open(&path).unwrap();
        let before = opened(&path).unwrap();
        let now = || compare(before, &path).unwrap();
        assert_eq!(now(), Attached::Same);
        fs::remove_file(&path).unwrap();
        assert_eq!(now(), Attached::Missing);
        disk::create(&path, Size::mib(1)).unwrap();
        assert_eq!(now(), Attached::Replaced);
        assert_eq!(compare(None, &path).unwrap(), Attached::Same);
    }

    #[test]
    fn a_backup_that_was_copied_over_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old, blank] = ["disk", "old", "blank"].map(|name| folder.path().join(name));
        for path in [&path, &blank] {
            disk::create(path, Size::mib(1)).unwrap();
        }
        let boot = || {
            stamp::renew(&path).unwrap();
            opened(&path).unwrap()
        };
        boot();
        fs::copy(&path, &old).unwrap();
        for copy in [&old, &blank] {
            let before = boot();
            assert_eq!(compare(before, &path).unwrap(), Attached::Same);
            fs::copy(copy, &path).unwrap();
            assert_eq!(compare(before, &path).unwrap(), Attached::Overwritten);
        }
        // Of an earlier version, which wrote no stamps.
        let before = opened(&path).unwrap();
        boot();
        assert_eq!(compare(before, &path).unwrap(), Attached::Same);
    }
}
