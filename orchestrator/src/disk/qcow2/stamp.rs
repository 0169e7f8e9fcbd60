//! The stamp of a qcow2 file: a random value in an extension of its header, new at each boot of its domain.
//!
//! A copy that is written over the file (`cp`, which keeps the inode) brings the stamp that the copy was made with, or none.
//! QEMU keeps extensions that it does not know.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::extensions::STAMP;
use super::header::Header;
use super::{number, read_filled};
use crate::state::Stamp;

const LENGTH: usize = 16;

/// Reads a file's stamp; `None` if it has none.
pub(in crate::disk) fn of(path: &Path) -> Result<Option<Stamp>> {
    let context = || format!("failed to read the header of `{}`", path.display());
    let file = File::open(path).with_context(context)?;
    let start = Start::read(&file).with_context(context)?;
    Ok(start.stamp().and_then(|at| {
        let content = start.cluster.get(at)?;
        Some(Stamp(Uuid::from_slice(content).ok()?))
    }))
}

/// Gives a file that nothing has open a new stamp. A file that is not this user's to write, and one whose header has no
/// room, stay as they are.
pub fn renew(path: &Path) -> Result<()> {
    let context = || format!("failed to write the header of `{}`", path.display());
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        opened => opened.with_context(context)?,
    };
    let start = Start::read(&file).with_context(context)?;
    let stamp = Uuid::new_v4();
    let (bytes, at) = match start.stamp() {
        Some(at) => (stamp.as_bytes().to_vec(), at.start),
        None => match start.with_stamp(stamp) {
            Some(bytes) => (bytes, 0),
            None => return Ok(()),
        },
    };
    // One write of less than a page, as QEMU does it.
    file.write_all_at(&bytes, at as u64)
        .and_then(|()| file.sync_data())
        .with_context(context)
}

/// The first cluster of a file: the header, its extensions, and the name of the backing file.
struct Start {
    cluster: Vec<u8>,
    /// All extensions, without the one that ends them.
    extensions: Range<usize>,
}

impl Start {
    fn read(file: &File) -> Result<Start> {
        let header = Header::read(file)?;
        let mut cluster = vec![0; 1 << header.cluster_bits];
        read_filled(file, &mut cluster, 0)?;
        let start = header.length as usize;
        let mut end = start;
        // The header was read, so lengths are those of complete extensions.
        while let Some(head) = cluster.get(end..end + 8).filter(|head| head[..4] != [0; 4]) {
            end += 8 + (number(head, 4, 4) as usize).next_multiple_of(8);
        }
        Ok(Start {
            cluster,
            extensions: start..end,
        })
    }

    /// Where the content of the stamp is.
    fn stamp(&self) -> Option<Range<usize>> {
        let mut at = self.extensions.start;
        while at < self.extensions.end {
            let length = number(&self.cluster, at + 4, 4) as usize;
            if number(&self.cluster, at, 4) as u32 == STAMP && length == LENGTH {
                return Some(at + 8..at + 8 + LENGTH);
            }
            at += 8 + length.next_multiple_of(8);
        }
        None
    }

    /// The same with a stamp, and the name of the backing file behind it; `None` where there is no room.
    fn with_stamp(&self, stamp: Uuid) -> Option<Vec<u8>> {
        let (name_at, name_length) = (
            number(&self.cluster, 8, 8) as usize,
            number(&self.cluster, 16, 4) as usize,
        );
        let mut bytes = self.cluster.get(..self.extensions.end)?.to_vec();
        bytes.extend(STAMP.to_be_bytes());
        bytes.extend((LENGTH as u32).to_be_bytes());
        bytes.extend(stamp.as_bytes());
        bytes.extend([0; 8]);
        if name_at != 0 {
            let moved = (bytes.len() as u64).to_be_bytes();
            bytes[8..16].copy_from_slice(&moved);
            bytes.extend(self.cluster.get(name_at..name_at + name_length)?);
        }
        Some(bytes).filter(|bytes| bytes.len() <= self.cluster.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use pspd_model::spec::Size;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::disk;

    fn tool(arguments: &[&str], path: &Path) {
        let mut command = Command::new(arguments[0]);
        let ran = command.args(&arguments[1..]).arg(path).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
    }

    #[test]
    fn a_copy_over_a_file_does_not_have_its_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        disk::create(&at("disk"), Size::mib(8)).unwrap();
        assert_eq!(of(&at("disk")).unwrap(), None);
        fs::copy(at("disk"), at("before")).unwrap();
        renew(&at("disk")).unwrap();
        let first = of(&at("disk")).unwrap();
        assert!(first.is_some());
        fs::copy(at("disk"), at("backup")).unwrap();
        renew(&at("disk")).unwrap();
        let second = of(&at("disk")).unwrap();
        assert!(second.is_some() && second != first);
        for (copy, expected) in [("backup", first), ("before", None)] {
            fs::copy(at(copy), at("disk")).unwrap();
            assert_eq!(of(&at("disk")).unwrap(), expected);
        }
    }

    /// What a disk has, its layers and its header are the same; QEMU finds no fault, and keeps the stamp when it changes the header.
    #[test]
    fn qemu_keeps_a_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (base, top) = (folder.join("base"), folder.join("top"));
        disk::create(&base, Size::mib(8)).unwrap();
        disk::create_overlay(&base, &top, Size::mib(8)).unwrap();
        tool(&["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 1M"], &top);
        let backing = Header::open(&top).unwrap().backing;
        for path in [&base, &top] {
            renew(path).unwrap();
            tool(&["qemu-img", "check", "-q", "-f", "qcow2"], path);
        }
        let stamps = [&base, &top].map(|path| of(path).unwrap());
        let same = || assert_eq!([&base, &top].map(|path| of(path).unwrap()), stamps);
        assert_eq!(Header::open(&top).unwrap().backing, backing);
        disk::resize(&top, Size::mib(16)).unwrap();
        disk::commit(&top, &CancellationToken::new()).unwrap();
        same();
        let read = ["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 1M 1M"];
        tool(&read, &base);
        disk::absorb(&top, None, &CancellationToken::new()).unwrap();
        assert_eq!(Header::open(&top).unwrap().backing, None);
        same();
        tool(&read, &top);
        disk::rebase(&top, &folder.join("another-base")).unwrap();
        same();
        // Where one exists, only its content changes.
        renew(&top).unwrap();
        let moved = Header::open(&top).unwrap().backing.unwrap().path;
        assert_eq!(moved, folder.join("another-base"));
    }

    #[test]
    fn a_header_without_room_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        // The longest name of a backing file that QEMU finds room for.
        let made = (1..512).rev().find(|length| {
            let base = "b".repeat(*length);
            let options = [
                "-u",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "qcow2",
                "-o",
                "cluster_size=512",
            ];
            let mut command = Command::new("qemu-img");
            command.arg("create").args(options).args(["-b", &base]);
            command
                .arg(&path)
                .arg("1M")
                .output()
                .unwrap()
                .status
                .success()
        });
        assert!(made.is_some());
        let before = fs::read(&path).unwrap();
        renew(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(of(&path).unwrap(), None);
    }
}
