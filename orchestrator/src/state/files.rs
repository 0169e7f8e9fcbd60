//! Atomic writes of small files.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use pspd_model::hint::Hinted;
use rustix::fs::{Access, access};
use tempfile::NamedTempFile;

/// Writes a file atomically and syncs it: readers see the old or the new content, also after a crash.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let write = || -> std::io::Result<()> {
        let mut file = NamedTempFile::new_in(folder)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("failed to write `{}`", path.display()))
}

/// Reads a file; returns `None` if it does not exist.
pub fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(denied(path, error)).with_context(|| format!("failed to read `{}`", path.display()))
        }
    }
}

/// Adds to an error of permission whose file it is: a command of root on a user's state leaves root's files in it.
pub(super) fn denied(path: &Path, error: std::io::Error) -> anyhow::Error {
    let owner = fs::symlink_metadata(path).map(|found| found.uid());
    let own = rustix::process::geteuid().as_raw();
    match owner {
        Ok(owner) if error.kind() == ErrorKind::PermissionDenied && owner != own => {
            let folder = path.parent().unwrap_or(path).display();
            Hinted::new(
                format!("{error}: it belongs to user {owner}, and this is user {own}"),
                format!("Run `sudo chown -R {own} {folder}`"),
            )
            .into()
        }
        _ => error.into(),
    }
}

/// Refuses a deployment's directory of which this user may not use everything.
pub(super) fn refuse_foreign(home: &Path) -> anyhow::Result<()> {
    let usable = |path: &Path| access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    match foreign(home, &usable) {
        None => Ok(()),
        Some((path, owner)) => {
            let own = rustix::process::geteuid().as_raw();
            bail!(Hinted::new(
                format!(
                    "`{}` belongs to user {owner}, and this is user {own}",
                    path.display()
                ),
                format!(
                    "If pspd ran once as the other user, run `sudo chown -R {own} '{}'`",
                    home.display()
                ),
            ))
        }
    }
}

/// The first of these that is not usable, with its owner: the directory, what is in it, and the keys. Of the other folders
/// libvirt gives files to QEMU's user.
fn foreign(home: &Path, usable: &impl Fn(&Path) -> bool) -> Option<(PathBuf, u32)> {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut paths = vec![home.to_owned()];
    paths.extend(entries(home));
    paths.extend(entries(&home.join("keys")));
    paths.into_iter().find_map(|path| {
        let owner = fs::metadata(&path).ok()?.uid();
        (!usable(&path)).then_some((path, owner))
    })
}

/// The last bytes of a file, `most` at most: a guest decides how long its logs are.
pub fn read_end(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes a file if it exists.
pub fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Creates a directory and its parents. Other users can traverse but not list it: a hypervisor that runs as a separate
/// user must reach the files that libvirt gives to it. All of them have mode 0600.
pub fn create_private(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("failed to create `{}`", path.display()))
}

/// Adds to an error of writing state where it could go instead, if its place is full or read-only.
pub(super) fn placed(error: anyhow::Error) -> anyhow::Error {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    match cause.map(std::io::Error::kind) {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem) => {
            let error = error.context("failed to save the deployment's state");
            Hinted::new(error, "Pass `--state-dir` to choose another directory").into()
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::told;

    #[test]
    fn a_full_place_has_a_hint() {
        let placed = |kind: ErrorKind| {
            let error = anyhow::Error::new(std::io::Error::from(kind)).context("failed to write");
            told(&placed(error))
        };
        let full = placed(ErrorKind::StorageFull);
        assert!(
            full.starts_with("failed to save the deployment's state: failed to write: ")
                && full.ends_with(". Pass `--state-dir` to choose another directory"),
            "{full}"
        );
        assert!(placed(ErrorKind::PermissionDenied).starts_with("failed to write"));
    }

    #[test]
    fn what_another_user_left_in_a_deployment_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("demo");
        assert_eq!(foreign(&home, &|_| false), None);
        create_private(&home.join("keys")).unwrap();
        let (spec, key) = (home.join("spec.json"), home.join("keys/ssh"));
        for path in [&spec, &key] {
            fs::write(path, "").unwrap();
        }
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(foreign(&home, &|_| true), None);
        for path in [home.clone(), home.join("keys"), spec, key] {
            let found = foreign(&home, &|other| other != path);
            assert_eq!(found, Some((path, own)));
        }
    }

    #[test]
    fn a_file_is_replaced_atomically_without_leaving_a_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn only_the_end_of_a_long_file_is_read() {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let mut end = file.reopen().unwrap();
        end.seek(SeekFrom::End(0)).unwrap();
        end.write_all(b"the end").unwrap();
        assert_eq!(read_end(file.path(), 3).unwrap(), b"end");
        fs::write(file.path(), "short").unwrap();
        assert_eq!(read_end(file.path(), 100).unwrap(), b"short");
    }

    #[test]
    fn a_failed_write_names_the_file() {
        let error = write_atomically(Path::new("/nonexistent/file"), b"", 0o600).unwrap_err();
        assert_eq!(error.to_string(), "failed to write `/nonexistent/file`");
    }
}
