//! Disks of domains: overlays over an image, and empty volumes. qemu-img makes both.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{qcow2, tool};
use crate::spec::Size;

/// Makes a qcow2 overlay of virtual size `size` at `path`, over the read-only qcow2 `base`.
///
/// The overlay names its base by absolute path. An error leaves no file; a file that is there already is an error.
pub fn create_overlay(base: &Path, path: &Path, size: Size) -> Result<()> {
    let base = base
        .canonicalize()
        .with_context(|| format!("looking for image `{}`", base.display()))?;
    let least = qcow2::virtual_size(&base)?;
    if size < least {
        bail!(
            "disk `{}` of {size} is smaller than its image `{}`: make it {least} or more",
            path.display(),
            base.display()
        );
    }
    create(path, size, |command| {
        command.args(["-F", "qcow2", "-b"]).arg(&base);
    })
}

/// Makes an empty qcow2 volume of virtual size `size` at `path`; it takes room as it is written.
///
/// An error leaves no file; a file that is there already is an error.
pub fn create_volume(path: &Path, size: Size) -> Result<()> {
    // A volume outlives much: lazy reference counts would need a repair after each crash, so they stay off.
    create(path, size, |_| {})
}

/// Grows a disk to a virtual size of `size`; its content stays.
pub fn grow(path: &Path, size: Size) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command
        .args(["resize", "-q", "-f", "qcow2", "--"])
        .arg(path)
        .arg(size.0.to_string());
    tool::run(&mut command, "qemu-utils", b"")
        .with_context(|| format!("growing disk `{}` to {size}", path.display()))
}

fn create(path: &Path, size: Size, options: impl FnOnce(&mut Command)) -> Result<()> {
    let context = || format!("creating disk `{}` of {size}", path.display());
    // Claims the name, so that qemu-img can't overwrite a disk with somebody's data.
    let mut claim = fs::OpenOptions::new();
    claim.write(true).create_new(true).mode(0o600);
    claim.open(path).with_context(context)?;
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    options(&mut command);
    command.arg("--").arg(path).arg(size.0.to_string());
    let made = tool::run(&mut command, "qemu-utils", b"").with_context(context);
    if made.is_err() {
        // The error that counts is qemu-img's.
        let _ = fs::remove_file(path);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_has_its_own_size() {
        let folder = tempfile::tempdir().unwrap();
        let (base, overlay) = (folder.path().join("base"), folder.path().join("overlay"));
        create_volume(&base, Size::mib(64)).unwrap();
        create_overlay(&base, &overlay, Size::mib(96)).unwrap();
        assert_eq!(qcow2::virtual_size(&overlay).unwrap(), Size::mib(96));
        assert!(qcow2::check_self_contained(&base).is_ok());
        assert!(qcow2::check_self_contained(&overlay).is_err());
    }

    #[test]
    fn an_overlay_smaller_than_its_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (base, overlay) = (folder.path().join("base"), folder.path().join("overlay"));
        create_volume(&base, Size::mib(64)).unwrap();
        let error = create_overlay(&base, &overlay, Size::mib(32)).unwrap_err();
        assert!(
            error.to_string().ends_with("make it 64 MiB or more"),
            "{error}"
        );
        assert!(!overlay.exists());
    }

    #[test]
    fn a_disk_that_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        fs::write(&path, "precious").unwrap();
        create_volume(&path, Size::mib(1)).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_disk_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        create_volume(&path, Size::mib(1)).unwrap();
        grow(&path, Size::mib(3)).unwrap();
        assert_eq!(qcow2::virtual_size(&path).unwrap(), Size::mib(3));
    }

    #[test]
    fn what_qemu_img_refuses_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        let error = create_volume(&path, Size(u64::MAX)).unwrap_err();
        assert!(
            format!("{error:#}").contains("`qemu-img` failed"),
            "{error:#}"
        );
        assert!(!path.exists());
    }
}
