//! A ROM as a file, checked before a domain is defined with it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pspd_model::spec::Digest;

/// Flash is mapped in blocks of this size, in bytes.
const BLOCK: u64 = 64 << 10;
/// The largest ROM that fits below 4 GiB beside the APICs, in bytes.
const MAXIMUM: u64 = 16 << 20;

/// A file that a machine starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rom {
    pub path: PathBuf,
    /// Of the file itself.
    pub sha256: Digest,
}

/// Refuses a file that no machine can map, or that is not the one that the topology names.
pub fn check(path: &Path, sha256: &Digest) -> anyhow::Result<()> {
    let found = digest(path)?;
    ensure!(
        found == *sha256,
        "the ROM `{}` has the sha256 {found}, but the topology names {sha256}; if the file is the right one, \
         correct the topology",
        path.display()
    );
    Ok(())
}

/// The digest of a file that a machine can map.
pub fn digest(path: &Path) -> anyhow::Result<Digest> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAXIMUM + 1).read_to_end(&mut bytes))
        .with_context(|| format!("failed to read the ROM `{shown}`"))?;
    check_size(path, bytes.len() as u64)?;
    Ok(Digest::of(&bytes))
}

/// Refuses a size in bytes that no machine can map.
pub fn check_size(path: &Path, size: u64) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(
        size <= MAXIMUM,
        "the ROM `{shown}` is larger than 16 MiB, the most that a machine can map"
    );
    ensure!(
        size > 0 && size.is_multiple_of(BLOCK),
        "the ROM `{shown}` has {size} bytes, which is not a multiple of 64 KiB"
    );
    Ok(())
}

/// Refuses a file that the hypervisor's own user, who is neither its owner nor of its group, cannot read.
pub fn check_readable(path: &Path) -> anyhow::Result<()> {
    for place in path.ancestors() {
        let mode = fs::metadata(place)
            .with_context(|| format!("failed to read the permissions of `{}`", place.display()))?
            .permissions()
            .mode();
        let (needed, fix) = if place == path {
            (0o004, "o+r")
        } else {
            (0o001, "o+x")
        };
        ensure!(
            mode & needed != 0,
            "the hypervisor's user cannot read the ROM `{}`: `{}` is closed to others; run `chmod {fix} {}`, or move \
             the ROM",
            path.display(),
            place.display(),
            place.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refusal(content: &[u8], sha256: &Digest) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        std::fs::write(&path, content).unwrap();
        check(&path, sha256).unwrap_err().to_string()
    }

    #[test]
    fn a_rom_with_the_named_digest_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        std::fs::write(&path, [7; 2 << 16]).unwrap();
        check(&path, &Digest::of(&[7; 2 << 16])).unwrap();
    }

    #[test]
    fn a_rom_that_others_cannot_read_is_refused_with_the_path_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        fs::write(&path, "rom").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let closed = |place: &Path| {
            let error = check_readable(&path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{}` is closed", place.display())),
                "{error}"
            );
        };
        closed(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        closed(folder.path());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        check_readable(&path).unwrap();
    }

    #[test]
    fn other_files_are_refused() {
        let named = Digest::of(b"another");
        assert!(refusal(&[0; 1 << 16], &named).contains(named.as_str()));
        assert!(refusal(&[0; 1000], &named).contains("1000 bytes"));
        assert!(refusal(&[], &named).contains("0 bytes"));
        assert!(refusal(&vec![0; 17 << 20], &named).contains("larger than 16 MiB"));
        let missing = check(Path::new("/nowhere/rom"), &named).unwrap_err();
        assert!(format!("{missing:#}").contains("`/nowhere/rom`: No such file"));
    }
}
