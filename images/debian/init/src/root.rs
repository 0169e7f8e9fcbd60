//! Finds the root file system by its UUID and mounts it.
//!
//! There is no udev: every block device is probed in turn, on any bus.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::MountFlags;

/// How long a disk may take to appear; virtio disks appear immediately.
const DEADLINE: Duration = Duration::from_secs(30);
/// The position of the UUID in an ext4 file system (superblock at 1024, `s_uuid` at 0x68).
const UUID_OFFSET: u64 = 1024 + 0x68;

/// Mounts the file system that `root=UUID=...` of the kernel's command line names; creates the file `grow` if its
/// disk has unused space after it.
pub(crate) fn mount(command_line: &str, target: &str, grow: &str) -> Result<()> {
    let wanted = command_line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("root=UUID="))
        .context("the kernel's command line has no `root=UUID=...`")?;
    let device = find(&wanted.replace('-', ""))
        .with_context(|| format!("failed to find the root file system `{wanted}`"))?;
    fs::create_dir_all(target).with_context(|| format!("failed to create `{target}`"))?;
    rustix::mount::mount(&device, target, c"ext4", MountFlags::NOATIME, None)
        .with_context(|| format!("failed to mount `{}`", device.display()))?;
    if has_room(&device).unwrap_or(false) {
        fs::write(grow, "").with_context(|| format!("failed to create `{grow}`"))?;
    }
    Ok(())
}

/// Whether the disk continues for at least one MiB after this partition. `None` if the device is a whole disk.
fn has_room(device: &Path) -> Option<bool> {
    const MIB: u64 = 2048;
    let partition =
        fs::canonicalize(Path::new("/sys/class/block").join(device.file_name()?)).ok()?;
    let sectors = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let end = sectors(partition.join("start"))? + sectors(partition.join("size"))?;
    Some(sectors(partition.parent()?.join("size"))? >= end + MIB)
}

fn find(wanted: &str) -> Result<PathBuf> {
    let start = Instant::now();
    loop {
        let mut devices: Vec<_> = fs::read_dir("/sys/class/block")?
            .filter_map(|entry| Some(Path::new("/dev").join(entry.ok()?.file_name())))
            .collect();
        devices.sort();
        if let Some(device) = devices
            .into_iter()
            .find(|device| uuid(device).is_ok_and(|uuid| uuid == wanted))
        {
            return Ok(device);
        }
        if start.elapsed() > DEADLINE {
            bail!("no disk has it after {DEADLINE:?}");
        }
        sleep(Duration::from_millis(20));
    }
}

fn uuid(device: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(device)?;
    let mut bytes = [0; 16];
    file.seek(SeekFrom::Start(UUID_OFFSET))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
