//! Gives disks the names that udev would: `/dev/disk/by-id/virtio-SERIAL`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result};

const LINKS: &str = "/dev/disk/by-id";

/// Links every virtio disk that has a serial and no link yet.
pub(crate) fn link_by_serial() -> Result<()> {
    fs::create_dir_all(LINKS).with_context(|| format!("failed to create `{LINKS}`"))?;
    for entry in fs::read_dir("/sys/block").context("failed to list disks")? {
        let entry = entry.context("failed to list disks")?;
        let Ok(serial) = fs::read_to_string(entry.path().join("serial")) else {
            continue;
        };
        let serial = serial.trim();
        if serial.is_empty() || serial.contains('/') {
            continue;
        }
        let link = format!("{LINKS}/virtio-{serial}");
        let device = format!("../../{}", entry.file_name().to_string_lossy());
        match symlink(device, &link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("failed to create `{link}`"));
            }
            _ => {}
        }
    }
    Ok(())
}
