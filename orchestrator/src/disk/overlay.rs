//! The overlays that an export makes: what they are called.
//!
//! ```text
//! DISK (frozen)   <-- DISK.snapshot       writes go to the overlay until it is merged into its disk
//! ```

use std::path::{Path, PathBuf};

/// The extension that an overlay adds to the name of its disk.
const SNAPSHOT: &str = "snapshot";

/// Where the overlay of a disk is.
pub fn overlay(disk: &Path) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(format!(".{SNAPSHOT}"));
    PathBuf::from(name)
}

pub fn is_overlay(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == SNAPSHOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_named_after_its_disk() {
        let disk = Path::new("/disks/web.server.qcow2");
        let overlay = overlay(disk);
        assert_eq!(overlay, Path::new("/disks/web.server.qcow2.snapshot"));
        assert!(is_overlay(&overlay) && !is_overlay(disk));
    }
}
