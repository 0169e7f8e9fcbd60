//! Key files: read, or created by the first process that needs them.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use pspd_model::hint::Hinted;

use crate::state::create_private;

/// The file's text; `None` where it does not exist.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => bail!(damaged(path)),
        Err(error) => Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    }
}

/// The error of a file that is not a key.
pub(super) fn damaged(path: &Path) -> Hinted {
    Hinted::new(
        format!("`{}` is damaged", path.display()),
        "Remove it, then run `pspd up` to create a new one",
    )
}

/// The file's text. A file that does not exist is created with what `make` returns, unless another process creates it
/// first.
pub(super) fn read_or_create(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    if let Some(text) = read(path)? {
        return Ok(text);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    create_private(folder)?;
    let text = make()?;
    // `tempfile` creates files with mode 0600, and `persist_noclobber` never replaces a file.
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("failed to create a file in `{}`", folder.display()))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all());
    written.with_context(|| format!("failed to write `{}`", path.display()))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(text),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => read(path)?
            .with_context(|| format!("`{}` disappeared while it was read", path.display())),
        Err(error) => {
            Err(error.error).with_context(|| format!("failed to write `{}`", path.display()))
        }
    }
}
