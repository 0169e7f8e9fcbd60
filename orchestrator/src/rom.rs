//! A firmware ROM, checked before a domain is defined with it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::spec::Digest;

/// Flash is mapped in blocks of this size, in bytes.
const BLOCK: u64 = 64 << 10;
/// The largest ROM that fits below 4 GiB beside the APICs, in bytes.
const MAXIMUM: u64 = 16 << 20;

/// Refuses a file that no machine can map, or that is not the one that the topology names.
pub fn check(path: &Path, sha256: &Digest) -> anyhow::Result<()> {
    let found = digest(path)?;
    ensure!(
        found == *sha256,
        "the ROM `{}` has the sha256 {found}, and the topology says {sha256}; if the file is the right one, \
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
    let size = bytes.len() as u64;
    ensure!(
        size <= MAXIMUM,
        "the ROM `{shown}` is larger than 16 MiB, which no machine can map"
    );
    ensure!(
        size > 0 && size.is_multiple_of(BLOCK),
        "the ROM `{shown}` is {size} bytes long; a whole ROM is a multiple of 64 KiB"
    );
    Ok(Digest::of(&bytes))
}

/// Refuses a file that the hypervisor's own user, who is neither its owner nor of its group, cannot read.
pub fn check_readable(path: &Path) -> anyhow::Result<()> {
    for place in path.ancestors() {
        let mode = fs::metadata(place)
            .with_context(|| format!("failed to look at `{}`", place.display()))?
            .permissions()
            .mode();
        let (needed, fix) = if place == path {
            (0o004, "o+r")
        } else {
            (0o001, "o+x")
        };
        ensure!(
            mode & needed != 0,
            "the hypervisor's user cannot read the ROM `{}`: `{}` is closed to others; `chmod {fix} {}` opens it, or \
             put the ROM elsewhere",
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
    fn whole_and_named_roms_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        std::fs::write(&path, [7; 2 << 16]).unwrap();
        check(&path, &Digest::of(&[7; 2 << 16])).unwrap();
    }

    #[test]
    fn one_that_is_closed_to_others_is_told_with_the_place_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        fs::write(&path, "rom").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let closed = |place: &Path| {
            let told = check_readable(&path).unwrap_err().to_string();
            assert!(
                told.contains(&format!("`{}` is closed", place.display())),
                "{told}"
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
    fn others_are_refused() {
        let named = Digest::of(b"another");
        assert!(refusal(&[0; 1 << 16], &named).contains(named.as_str()));
        assert!(refusal(&[0; 1000], &named).contains("1000 bytes"));
        assert!(refusal(&[], &named).contains("0 bytes"));
        assert!(refusal(&vec![0; 17 << 20], &named).contains("larger than 16 MiB"));
        let missing = check(Path::new("/nowhere/rom"), &named).unwrap_err();
        assert!(format!("{missing:#}").contains("`/nowhere/rom`: No such file"));
    }
}
