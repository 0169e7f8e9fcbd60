//! What qcow2 files say of themselves, read from their headers: quicker than a process per file.
//!
//! The header's layout: <https://www.qemu.org/docs/master/interop/qcow2.html>.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::observed::DiskState;
use crate::spec::{Digest, Size};

const MAGIC: [u8; 4] = *b"QFI\xfb";

struct Header {
    size: Size,
    backing: Option<PathBuf>,
}

/// System disks by domain name.
pub fn system(folder: &Path) -> anyhow::Result<BTreeMap<String, DiskState>> {
    let mut disks = BTreeMap::new();
    for path in images(folder)? {
        let header = header(&path)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        disks.insert(
            name,
            DiskState {
                size: header.size,
                image: header.backing.as_deref().and_then(image_digest),
            },
        );
    }
    Ok(disks)
}

/// Data volumes' virtual sizes by file name.
pub fn volumes(folder: &Path) -> anyhow::Result<BTreeMap<String, Size>> {
    let mut volumes = BTreeMap::new();
    for path in images(folder)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        volumes.insert(name, header(&path)?.size);
    }
    Ok(volumes)
}

fn images(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to list `{}`", folder.display()))?,
    };
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "qcow2"))
        .collect())
}

fn header(path: &Path) -> anyhow::Result<Header> {
    read(path).with_context(|| {
        format!(
            "failed to read the header of `{}`; remove the file if it is broken",
            path.display()
        )
    })
}

fn read(path: &Path) -> anyhow::Result<Header> {
    let mut file = File::open(path)?;
    let mut bytes = [0; 32];
    file.read_exact(&mut bytes)?;
    let (magic, rest) = bytes.split_at(4);
    ensure!(magic == MAGIC, "it is no qcow2 file");
    let number = |from: usize, length: usize| {
        rest[from - 4..from - 4 + length]
            .iter()
            .fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
    };
    let (offset, length, size) = (number(8, 8), number(16, 4), number(24, 8));
    // The format allows 1023 bytes for the backing file's name.
    let backing = if offset == 0 || length > 1023 {
        None
    } else {
        let mut name = vec![0; length as usize];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut name)?;
        Some(PathBuf::from(String::from_utf8_lossy(&name).into_owned()))
    };
    Ok(Header {
        size: Size(size),
        backing,
    })
}

/// The cache keeps an image in a folder named by its digest.
fn image_digest(disk: &Path) -> Option<Digest> {
    Digest::parse(disk.parent()?.file_name()?.to_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_image_are_read_from_what_qemu_img_writes() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"image");
        let image = folder.path().join(digest.as_str());
        fs::create_dir(&image).unwrap();
        let disks = folder.path().join("disks");
        fs::create_dir(&disks).unwrap();
        let base = image.join("disk.qcow2");
        let create = |arguments: &[&str]| {
            let status = std::process::Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .args(arguments)
                .status();
            assert!(status.unwrap().success());
        };
        create(&[base.to_str().unwrap(), "64M"]);
        let overlay = disks.join("web.qcow2");
        create(&[
            "-b",
            base.to_str().unwrap(),
            "-F",
            "qcow2",
            overlay.to_str().unwrap(),
            "128M",
        ]);
        let expected = DiskState {
            size: Size::mib(128),
            image: Some(digest),
        };
        assert_eq!(
            system(&disks).unwrap(),
            BTreeMap::from([("web".to_owned(), expected)])
        );
        assert_eq!(
            volumes(&disks).unwrap(),
            BTreeMap::from([("web.qcow2".to_owned(), Size::mib(128))])
        );
    }
}
