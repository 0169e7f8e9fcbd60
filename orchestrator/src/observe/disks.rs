//! A deployment's disks, by the headers of their files: quicker than a process per file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::observed::{Base, DiskState, OldVolume};
use pspd_model::spec::{Digest, Size, Spec, VolumeId};

use crate::disk::layers;
use crate::disk::qcow2::Header;

/// System disks by domain name.
pub(super) fn system(folder: &Path) -> anyhow::Result<BTreeMap<String, DiskState>> {
    let mut disks = BTreeMap::new();
    for path in layers::files(folder)? {
        let header = header(&path)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let image = image(&path)?;
        let present = match &image {
            None => false,
            Some(image) => folder
                .join(image)
                .try_exists()
                .with_context(|| format!("failed to look for `{}`", image.display()))?,
        };
        disks.insert(
            name,
            DiskState {
                size: header.size,
                image: image.as_deref().and_then(image_digest),
                base: if present {
                    Base::Present
                } else {
                    Base::Missing
                },
            },
        );
    }
    Ok(disks)
}

/// A deployment's data volumes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct DataVolumes {
    /// Virtual sizes.
    pub(super) named: BTreeMap<VolumeId, Size>,
    /// Those with names of earlier versions, by file name.
    pub(super) old: BTreeMap<String, OldVolume>,
}

/// Data volumes of a folder. `before` is what the last `up` had, which says whose a file is that could be of several.
pub(super) fn volumes(folder: &Path, before: Option<&Spec>) -> anyhow::Result<DataVolumes> {
    let mut volumes = DataVolumes::default();
    let before: BTreeSet<VolumeId> = before.into_iter().flat_map(Spec::volumes).collect();
    for path in layers::files(folder)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(id) = VolumeId::of_file(&file) {
            volumes.named.insert(id, header(&path)?.size);
            continue;
        }
        let mut of = VolumeId::of_old_file(&file);
        if !of.is_disjoint(&before) {
            of.retain(|id| before.contains(id));
        }
        // A file of another name is none of pspd's.
        if !of.is_empty() {
            let size = header(&path)?.size;
            volumes
                .old
                .insert(file.into_owned(), OldVolume { size, of });
        }
    }
    Ok(volumes)
}

/// The digests of the images that files in a folder are directly over.
pub(super) fn images(folder: &Path) -> anyhow::Result<BTreeSet<Digest>> {
    let mut images = BTreeSet::new();
    for path in layers::files(folder)? {
        let backing = header(&path)?.backing;
        images.extend(backing.and_then(|base| image_digest(&base.path)));
    }
    Ok(images)
}

/// The file at the end of a disk's layers; `None` where it is self-contained.
fn image(disk: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut chain = layers::chain(disk).with_context(|| damaged(disk))?;
    Ok(chain.pop().filter(|_| !chain.is_empty()))
}

fn header(path: &Path) -> anyhow::Result<Header> {
    Header::open(path).with_context(|| damaged(path))
}

fn damaged(path: &Path) -> String {
    format!(
        "failed to inspect the disk `{}`; remove the file if it is damaged",
        path.display()
    )
}

/// The cache keeps an image in a folder named by its digest.
fn image_digest(disk: &Path) -> Option<Digest> {
    Digest::parse(disk.parent()?.file_name()?.to_str()?).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pspd_model::spec::Name;
    use pspd_model::topology::{self, Found};

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
        let expected = |base| {
            let disk = DiskState {
                size: Size::mib(128),
                image: Some(digest.clone()),
                base,
            };
            BTreeMap::from([("web".to_owned(), disk)])
        };
        assert_eq!(system(&disks).unwrap(), expected(Base::Present));
        fs::rename(&base, image.join("disk.of-another-build.qcow2")).unwrap();
        assert_eq!(system(&disks).unwrap(), expected(Base::Missing));
    }

    fn spec(domain: &str, volume: &str) -> Spec {
        let text = format!(
            "name: demo\nimages: {{debian: {{path: /image, sha256: {}}}}}\ndomains: {{{domain}: {{image: debian, disks: {{{volume}: {{size: 4 MiB, mount: /data}}}}}}}}\n",
            Digest::of(b"image")
        );
        let look = |_: &Path| Found::File;
        topology::parse(&text, Path::new("/"), &look).unwrap()
    }

    #[test]
    fn the_last_up_says_whose_an_old_volume_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for file in ["db-main-data.qcow2", "db.log.qcow2", "other.qcow2"] {
            disk::create(&path.join(file), Size::mib(1)).unwrap();
        }
        let id = |domain: &str, volume: &str| VolumeId {
            domain: Name::new(domain).unwrap(),
            volume: Name::new(volume).unwrap(),
        };
        let (long, short) = (id("db-main", "data"), id("db", "main-data"));
        let of = |before: Option<&Spec>| {
            let volumes = volumes(path, before).unwrap();
            assert_eq!(
                volumes.named,
                BTreeMap::from([(id("db", "log"), Size::mib(1))])
            );
            let (file, old) = volumes.old.into_iter().next().unwrap();
            assert_eq!(file, "db-main-data.qcow2");
            old.of
        };
        assert_eq!(of(None), BTreeSet::from([short.clone(), long.clone()]));
        assert_eq!(of(Some(&spec("db", "main-data"))), BTreeSet::from([short]));
        assert_eq!(of(Some(&spec("db-main", "data"))), BTreeSet::from([long]));
    }
}
