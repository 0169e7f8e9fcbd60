//! The state directories that use a cache: nothing that a deployment of any of them needs is removed from it.
//!
//! `CACHE/users/DIGEST` has the path of one. Behind a NUL there is the id of its file system (statfs(2), `f_fsid`), if that
//! outlives the host's next boot.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pspd_model::spec::Digest;
use rustix::fs::{statfs, statvfs};

use super::write_atomically;

/// `f_type` of tmpfs (linux/magic.h).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Records in `users` that the state directory `state` uses the cache.
pub(super) fn register(users: &Path, state: &Path) -> anyhow::Result<()> {
    let path = users.join(Digest::of(state.as_os_str().as_bytes()).as_str());
    let mut record = state.as_os_str().as_bytes().to_vec();
    if let Some(id) = file_system(state)? {
        record.extend(format!("\0{id}").bytes());
    }
    if fs::read(&path).is_ok_and(|text| text == record) {
        return Ok(());
    }
    fs::create_dir_all(users).with_context(|| format!("failed to create `{}`", users.display()))?;
    write_atomically(&path, &record, 0o644)
}

/// The recorded state directories that exist.
///
/// One that does not exist was removed. Where another file system is in its place now, it may come back with the disk that
/// has it: this is an error.
pub(super) fn registered(users: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("failed to list `{}`", users.display());
    let entries = match fs::read_dir(users) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(context)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(context)?.path();
        let record =
            fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        let mut parts = record.split(|byte| *byte == 0);
        let state = Path::new(OsStr::from_bytes(parts.next().unwrap_or_default()));
        if exists(state)? {
            found.push(state.to_owned());
            continue;
        }
        let Some(recorded) = parts.next() else {
            continue;
        };
        let id = file_system(state)?.map(|id| id.to_string());
        ensure!(
            id.is_some_and(|id| id.as_bytes() == recorded),
            "the state directory `{}` uses this cache, and its file system is not mounted. Mount it, or, if its \
             deployments are gone, remove `{}`",
            state.display(),
            path.display()
        );
    }
    Ok(found)
}

/// The id of the file system that has `path`, or would have it; `None` for one in memory.
fn file_system(path: &Path) -> anyhow::Result<Option<u64>> {
    let mut existing = path;
    while !exists(existing)? {
        existing = existing.parent().unwrap_or(Path::new("/"));
    }
    let context = || format!("failed to get the file system of `{}`", existing.display());
    let kind = statfs(existing).with_context(context)?.f_type;
    let id = statvfs(existing).with_context(context)?.f_fsid;
    Ok((kind != TMPFS_MAGIC).then_some(id))
}

fn exists(path: &Path) -> anyhow::Result<bool> {
    path.try_exists()
        .with_context(|| format!("failed to look for `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_whose_disk_is_not_mounted_is_an_error_and_a_removed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (users, state) = (at("users"), at("state"));
        assert!(registered(&users).unwrap().is_empty());
        register(&users, &state).unwrap();
        assert!(registered(&users).unwrap().is_empty());
        fs::create_dir(&state).unwrap();
        assert_eq!(registered(&users).unwrap(), std::slice::from_ref(&state));
        // `/proc` is a file system of its own on every machine.
        let record = fs::read_dir(&users).unwrap().next().unwrap().unwrap();
        let other = file_system(Path::new("/proc")).unwrap().unwrap();
        fs::write(record.path(), format!("{}\0{other}", state.display())).unwrap();
        assert_eq!(registered(&users).unwrap(), std::slice::from_ref(&state));
        fs::remove_dir(&state).unwrap();
        let error = registered(&users).unwrap_err().to_string();
        assert!(error.contains("is not mounted"), "{error}");
        // The next `up` knows better.
        register(&users, &state).unwrap();
        assert!(registered(&users).unwrap().is_empty());
        fs::write(record.path(), state.as_os_str().as_bytes()).unwrap();
        assert!(registered(&users).unwrap().is_empty());
    }
}
