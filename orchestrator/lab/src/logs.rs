//! Bounds the logs that QEMU writes of the guests' consoles: a guest must not be able to fill the host's disk.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::retry_on_intr;

/// How often sizes are checked.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
/// A log that takes more room on the disk is shortened, in bytes.
const MOST: u64 = 4 << 20;
/// What stays of it: its end, in bytes.
const KEPT: u64 = 1 << 20;

/// Shortens the logs of a folder that have grown too long. A log that cannot be shortened is tried again.
pub(crate) fn shorten(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_log = path.extension() == Some(OsStr::new("log"));
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_log || !is_file {
            continue;
        }
        let appended = !path.to_string_lossy().ends_with(".firmware.log");
        // Its writer continues whatever happens here.
        let _ = if appended {
            keep_end(&path)
        } else {
            free_beginning(&path)
        };
    }
}

/// QEMU appends to the serial console's log, wherever its end is.
fn keep_end(path: &Path) -> io::Result<()> {
    let mut log = File::options().read(true).append(true).open(path)?;
    let length = log.metadata()?.len();
    if length <= MOST {
        return Ok(());
    }
    log.seek(SeekFrom::Start(length - KEPT))?;
    let mut end = Vec::new();
    (&mut log).take(2 * KEPT).read_to_end(&mut end)?;
    // From the next line on.
    let line = end.iter().position(|byte| *byte == b'\n');
    let end = &end[line.map_or(0, |at| at + 1)..];
    log.set_len(0)?;
    log.write_all(end)
}

/// QEMU writes the firmware's log at its own offset, so the file keeps its length.
fn free_beginning(path: &Path) -> io::Result<()> {
    let log = File::options().write(true).open(path)?;
    let metadata = log.metadata()?;
    if metadata.blocks() * 512 > MOST {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let beginning = metadata.len().saturating_sub(KEPT);
        retry_on_intr(|| fallocate(&log, flags, 0, beginning))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flooded(path: &Path) {
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let mut text = String::new();
        for number in 0..700_000 {
            text.push_str(&format!("line {number}\n"));
        }
        log.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_long_log_keeps_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (serial, firmware, other) = (
            folder.path().join("web.log"),
            folder.path().join("web.firmware.log"),
            folder.path().join("web.txt"),
        );
        for path in [&serial, &firmware, &other] {
            flooded(path);
        }
        fs::write(folder.path().join("short.log"), "short\n").unwrap();
        let before = fs::metadata(&firmware).unwrap();
        shorten(folder.path());
        let text = fs::read_to_string(&serial).unwrap();
        assert!(
            (KEPT / 2..=KEPT).contains(&(text.len() as u64)),
            "{}",
            text.len()
        );
        assert!(text.starts_with("line ") && text.ends_with("line 699999\n"));
        let after = fs::metadata(&firmware).unwrap();
        assert_eq!(after.len(), before.len());
        assert!(after.blocks() * 512 <= 2 * KEPT, "{}", after.blocks());
        assert!(fs::read(&firmware).unwrap().ends_with(b"line 699999\n"));
        assert_eq!(fs::metadata(&other).unwrap().len(), before.len());
        assert_eq!(
            fs::read_to_string(folder.path().join("short.log")).unwrap(),
            "short\n"
        );
        // The writer continues at the new end.
        flooded(&serial);
        shorten(folder.path());
        assert!(fs::metadata(&serial).unwrap().len() <= KEPT);
    }
}
