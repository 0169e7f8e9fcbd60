//! Names the file system that is full, which an error of the kernel does not.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Adds to an error of writing to an open file that its file system is full, if that is the cause.
pub(crate) fn named(error: io::Error, file: &File) -> anyhow::Error {
    if !is_cause(&error) {
        return error.into();
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let place = path.ok().and_then(|path| file_system(path.parent()?).ok());
    let full = match place {
        Some(place) => format!("the file system at `{}` is full", place.display()),
        None => "its file system is full".to_owned(),
    };
    anyhow::Error::new(error).context(full)
}

fn is_cause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// The directory at which the file system of a directory is mounted.
fn file_system(directory: &Path) -> io::Result<PathBuf> {
    let device = fs::metadata(directory)?.dev();
    let mut place = directory;
    while let Some(parent) = place.parent()
        && fs::metadata(parent)?.dev() == device
    {
        place = parent;
    }
    Ok(place.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_file_system_that_is_full_is_named() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = (&full).write_all(b"text").unwrap_err();
        let error = format!("{:#}", named(error, &full));
        let place = file_system(Path::new("/dev")).unwrap();
        let expected = format!("the file system at `{}` is full: ", place.display());
        assert!(error.starts_with(&expected), "{error}");
        let other = named(ErrorKind::NotFound.into(), &full).to_string();
        assert_eq!(other, "entity not found");
    }
}
