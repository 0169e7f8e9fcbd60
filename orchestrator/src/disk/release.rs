//! The release disk: a raw file through which a running guest reads the files of its releases. Reading a disk is many
//! times as fast as SSH where the guest's processor is emulated.
//!
//! ```text
//! 0       1 MiB                                  SIZE
//! | zeros | file | zeros | file | zeros ...      |
//! ```
//! The file is sparse, and has content only during a push: a release may have secrets. It begins with zeros, so that no
//! firmware and no kernel takes it for a disk with something to boot or to mount. QEMU has the file open while the domain
//! runs, so it is never replaced then.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use pspd_model::spec::Size;

use crate::state::remove_if_there;

/// An emulated guest reads and checks as much well within the deadline of a command; QEMU takes the size when it starts.
pub const SIZE: Size = Size::mib(256);
const START: u64 = 1 << 20;
/// The guest reads without its page cache, in whole blocks of the disk.
const BLOCK: u64 = 4 << 10;

/// Where the guest finds a file on the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

impl Extent {
    /// The length up to the end of its last block.
    pub fn whole_blocks(self) -> u64 {
        self.length.next_multiple_of(BLOCK)
    }
}

/// Creates the file if there is none.
pub fn ensure(path: &Path) -> anyhow::Result<()> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_len(SIZE.0));
    match created {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("failed to create `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces the file, before a process opens it, by one without what an interrupted push left.
pub fn renew(path: &Path) -> anyhow::Result<()> {
    remove_if_there(path)?;
    ensure(path)
}

/// The file while a push writes to it.
#[derive(Debug)]
pub struct ReleaseDisk {
    file: File,
    /// Where the next file begins.
    next: u64,
}

impl ReleaseDisk {
    /// Whether files of these lengths have room on it.
    pub fn has_room(lengths: impl IntoIterator<Item = u64>) -> bool {
        let blocks = lengths.into_iter().map(|length| length.div_ceil(BLOCK));
        blocks.sum::<u64>() <= (SIZE.0 - START) / BLOCK
    }

    /// Opens an existing file and removes what an interrupted push left.
    pub fn open(path: &Path) -> anyhow::Result<ReleaseDisk> {
        let file = OpenOptions::new().write(true).open(path);
        let file = file.with_context(|| format!("failed to open `{}`", path.display()))?;
        let disk = ReleaseDisk { file, next: START };
        disk.clear()?;
        Ok(disk)
    }

    /// Appends a file. It need not reach the host's disk: QEMU reads it through the same page cache.
    pub fn write(&mut self, from: &Path) -> anyhow::Result<Extent> {
        let mut write = || -> io::Result<u64> {
            let source = File::open(from)?;
            self.file.seek(SeekFrom::Start(self.next))?;
            io::copy(&mut source.take(SIZE.0 - self.next), &mut self.file)
        };
        let length = write().with_context(|| format!("failed to copy `{}`", from.display()))?;
        let extent = Extent {
            offset: self.next,
            length,
        };
        self.next += extent.whole_blocks();
        Ok(extent)
    }

    /// Removes all content. Every file system can truncate, and not every one can punch holes. QEMU does not look at the
    /// size again: what it reads in between is zeros.
    pub fn clear(&self) -> anyhow::Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.set_len(SIZE.0))
            .context("failed to empty the release disk")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn files_are_in_blocks_of_their_own_until_the_disk_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (path, from) = (folder.path().join("disk"), folder.path().join("file"));
        ensure(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let mut disk = ReleaseDisk::open(&path).unwrap();
        let mut extents = Vec::new();
        for length in [1, 0, 4096, 5000] {
            fs::write(&from, vec![7; length]).unwrap();
            extents.push(disk.write(&from).unwrap());
        }
        let extent = |offset, length| Extent { offset, length };
        let expected = [
            extent(START, 1),
            extent(START + 4096, 0),
            extent(START + 4096, 4096),
            extent(START + 8192, 5000),
        ];
        assert_eq!(extents, expected);
        assert_eq!(expected.map(Extent::whole_blocks), [4096, 0, 4096, 8192]);
        let mut read = [1; 5001];
        reader.read_exact_at(&mut read, START + 8192).unwrap();
        assert_eq!((read[4999], read[5000]), (7, 0));
        disk.clear().unwrap();
        reader.read_exact_at(&mut read, START + 8192).unwrap();
        assert_eq!(read, [0; 5001]);
        let found = reader.metadata().unwrap();
        assert_eq!((found.len(), found.blocks()), (SIZE.0, 0));
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_a_process_may_have_open_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let inode = || fs::metadata(&path).unwrap().ino();
        ensure(&path).unwrap();
        let _open = File::open(&path).unwrap();
        let before = inode();
        ensure(&path).unwrap();
        ReleaseDisk::open(&path).unwrap();
        assert_eq!(inode(), before);
        renew(&path).unwrap();
        assert_ne!(inode(), before);
    }

    #[test]
    fn what_does_not_fit_is_known_before() {
        let most = SIZE.0 - START;
        assert!(ReleaseDisk::has_room([]) && ReleaseDisk::has_room([most]));
        assert!(ReleaseDisk::has_room([most - BLOCK, 1]));
        assert!(!ReleaseDisk::has_room([most - BLOCK + 1, 1]));
    }
}
