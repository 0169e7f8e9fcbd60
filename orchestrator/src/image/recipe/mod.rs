//! Recipes: folders whose `build.sh` makes an image, a ROM or other media.
//!
//! `build.sh OUT [PACKAGE...]` leaves its result in the folder `OUT`, such as `disk.qcow2`, and prints `STAGE: ...` on
//! standard output before each stage; packages are installed beside the recipe's own. `PSPD_GUEST_INIT` names the guest's
//! first process where pspd carries it compiled. Every file of the folder counts for the digest, so that a changed recipe
//! makes another image.

mod build;

use std::borrow::Cow;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pspd_model::spec::Digest;
use rust_embed::RustEmbed;
use sha2::{Digest as _, Sha256};

pub(crate) use build::Build;

pub(crate) const SCRIPT: &str = "build.sh";

/// The digest over the names, modes and contents of a recipe's files.
pub(crate) fn digest(recipe: &Path) -> Result<Digest> {
    ensure!(
        recipe.join(SCRIPT).is_file(),
        "the recipe `{}` has no `{SCRIPT}`",
        recipe.display()
    );
    digest_of_folder(recipe)
}

/// The digest of a folder of a recipe.
pub(super) fn digest_of_folder(folder: &Path) -> Result<Digest> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    let files = paths.into_iter().map(|path| {
        let (kind, content) = content(&path)?;
        let name = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        Ok((name, kind, content.into()))
    });
    Ok(digest_of_files(files.collect::<Result<_>>()?))
}

/// The digest of a folder that this program carries, and that the folder has where it is written to.
pub(super) fn digest_of_carried<R: RustEmbed>(folder: &str) -> Digest {
    let files = R::iter().filter_map(|path| {
        let name = Path::new(&*path).strip_prefix(folder).ok()?.to_owned();
        let content = carried::<R>(&path);
        let kind = if is_script(&content) {
            EXECUTABLE
        } else {
            FILE
        };
        Some((name, kind, content))
    });
    digest_of_files(files.collect())
}

/// A name, a kind, and a content.
type File = (PathBuf, &'static str, Cow<'static, [u8]>);

const EXECUTABLE: &str = "executable";
const FILE: &str = "file";
const LINK: &str = "link";

fn digest_of_files(mut files: Vec<File>) -> Digest {
    files.sort();
    let mut hash = Sha256::new();
    for (name, kind, content) in files {
        // Lengths separate what would otherwise run together.
        for part in [name.as_os_str().as_bytes(), kind.as_bytes(), &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Digest::from(hash)
}

/// Writes a recipe that this program carries to `folder`.
pub(crate) fn write<R: RustEmbed>(folder: &Path) -> Result<()> {
    for name in R::iter() {
        let path = folder.join(&*name);
        let context = || format!("failed to write `{}`", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        let content = carried::<R>(&name);
        fs::write(&path, &content).with_context(context)?;
        if is_script(&content) {
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, executable)
                .with_context(|| format!("failed to make `{}` executable", path.display()))?;
        }
    }
    Ok(())
}

fn carried<R: RustEmbed>(name: &str) -> Cow<'static, [u8]> {
    R::get(name).expect("a listed file exists").data
}

/// What is executable in a recipe; the program carries contents without modes.
fn is_script(content: &[u8]) -> bool {
    content.starts_with(b"#!")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))?
    {
        let entry = entry.with_context(|| format!("failed to list `{}`", folder.display()))?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn content(path: &Path) -> Result<(&'static str, Vec<u8>)> {
    let context = || format!("failed to read `{}`", path.display());
    let metadata = fs::symlink_metadata(path).with_context(context)?;
    if metadata.is_symlink() {
        let target = fs::read_link(path).with_context(context)?;
        return Ok((LINK, target.as_os_str().as_bytes().to_vec()));
    }
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let kind = if executable { EXECUTABLE } else { FILE };
    Ok((kind, fs::read(path).with_context(context)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_counts_for_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SCRIPT), "").unwrap();
        let path = folder.path().join("deep/file");
        fs::create_dir(folder.path().join("deep")).unwrap();
        let mut seen = BTreeSet::new();
        seen.insert(digest(folder.path()).unwrap());
        fs::write(&path, "a").unwrap();
        seen.insert(digest(folder.path()).unwrap());
        fs::write(&path, "b").unwrap();
        seen.insert(digest(folder.path()).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        seen.insert(digest(folder.path()).unwrap());
        fs::rename(&path, folder.path().join("file")).unwrap();
        seen.insert(digest(folder.path()).unwrap());
        assert_eq!(seen.len(), 5);
        assert!(seen.contains(&digest(folder.path()).unwrap()));
    }
}
