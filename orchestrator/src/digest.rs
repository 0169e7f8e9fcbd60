//! The digest of a file's content.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use pspd_model::spec::Digest;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::event::Scope;
use crate::progress::Progress;

/// Reads a file to its end, unless `cancel` ends that first.
pub(crate) fn of_file(path: &Path, cancel: &CancellationToken) -> Result<Digest> {
    let shown = path.display();
    let during = format!("reading `{shown}`");
    let progress = Progress::new(None, during, &Scope::ignored(), cancel);
    let mut hasher = Sha256::new();
    File::open(path)
        .and_then(|file| io::copy(&mut progress.watch(file), &mut hasher))
        .with_context(|| format!("failed to read `{shown}`"))?;
    Ok(Digest::from(hasher))
}

/// Whether a file can be read and has this content.
pub(crate) fn is_of_file(wanted: &Digest, path: &Path) -> bool {
    of_file(path, &CancellationToken::new()).is_ok_and(|found| found == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancelled::Cancelled;

    #[test]
    fn a_file_of_any_size_is_read_until_the_run_is_cancelled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 42).unwrap();
        let cancel = CancellationToken::new();
        let end = cancel.clone();
        std::thread::spawn(move || end.cancel());
        let error = of_file(file.path(), &cancel).expect_err("it takes an hour");
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
        file.as_file().set_len(3).unwrap();
        let read = of_file(file.path(), &CancellationToken::new());
        assert_eq!(read.unwrap(), Digest::of(&[0; 3]));
    }
}
