//! A deployment's disks, by the headers of their files: quicker than a process per file.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::observed::DiskState;
use pspd_model::spec::{Digest, Size};

use crate::disk::qcow2::Header;

/// System disks by domain name.
pub(super) fn system(folder: &Path) -> anyhow::Result<BTreeMap<String, DiskState>> {
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
                image: header.backing.and_then(|base| image_digest(&base.path)),
            },
        );
    }
    Ok(disks)
}

/// Data volumes' virtual sizes by file name.
pub(super) fn volumes(folder: &Path) -> anyhow::Result<BTreeMap<String, Size>> {
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
    Header::open(path).with_context(|| {
        format!(
            "failed to look at the disk `{}`; remove the file if it is damaged",
            path.display()
        )
    })
}

/// The cache keeps an image in a folder named by its digest.
fn image_digest(disk: &Path) -> Option<Digest> {
    Digest::parse(disk.parent()?.file_name()?.to_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk;

    #[test]
    fn size_and_image_are_read_from_what_qemu_img_writes() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"image");
        let image = folder.path().join(digest.as_str());
        fs::create_dir(&image).unwrap();
        let disks = folder.path().join("disks");
        fs::create_dir(&disks).unwrap();
        let base = image.join("disk.qcow2");
        disk::create(&base, Size::mib(64)).unwrap();
        disk::create_overlay(&base, &disks.join("web.qcow2"), Size::mib(128)).unwrap();
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
