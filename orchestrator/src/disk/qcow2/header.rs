//! The header of a qcow2 file.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::spec::Size;

use super::{BACKING_FORMAT, EXTERNAL_DATA_FILE, HEADER, HEADER_V2, MAGIC, number};

/// The longest names that the format allows, in bytes.
const LONGEST_BACKING_FILE: u32 = 1023;
const LONGEST_BACKING_FORMAT: u64 = 16;

/// What a qcow2 file says of itself.
#[derive(Clone, Debug)]
pub struct Header {
    /// The size that a guest sees.
    pub size: Size,
    /// The file that has what this one lacks.
    pub backing: Option<Backing>,
    pub(super) cluster_bits: u32,
    pub(super) encrypted: bool,
    pub(super) incompatible_features: u64,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u32,
    pub(super) refcount_offset: u64,
    pub(super) refcount_clusters: u32,
    /// Reference counts have 2 to this power bits.
    pub(super) refcount_order: u32,
    /// How many internal snapshots the file has.
    pub(super) snapshots: u32,
}

/// A backing file as an overlay names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    pub path: PathBuf,
    pub format: Option<String>,
}

/// Whether a file begins like a qcow2 file.
pub fn is_qcow2(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    let file = File::open(path).with_context(|| format!("failed to open `{}`", path.display()))?;
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(magic == MAGIC)
}

impl Header {
    /// Reads and checks the header of the file at `path`.
    pub fn open(path: &Path) -> Result<Header> {
        let file =
            File::open(path).with_context(|| format!("failed to open `{}`", path.display()))?;
        Header::read(&file)
            .with_context(|| format!("failed to read the header of `{}`", path.display()))
    }

    pub(super) fn read(file: &File) -> Result<Header> {
        let length = file.metadata()?.len().min(HEADER as u64) as usize;
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes[..length], 0)?;
        ensure!(
            length >= HEADER_V2 && bytes.starts_with(&MAGIC),
            "not a qcow2 image"
        );
        let u32_at = |at: usize| number(&bytes, at, 4) as u32;
        let u64_at = |at: usize| number(&bytes, at, 8);
        let (incompatible_features, header_length, refcount_order) = match u32_at(4) {
            2 => (0, HEADER_V2 as u32, 4),
            3 if length == HEADER => (u64_at(72), u32_at(100), u32_at(96)),
            version => bail!("unknown qcow2 version {version}"),
        };
        let cluster_bits = u32_at(20);
        ensure!(
            (9..=21).contains(&cluster_bits),
            "invalid cluster size of 2^{cluster_bits} bytes"
        );
        let backing = match u64_at(8) {
            0 => None,
            offset => {
                // Extensions are between the header and the name, within the first cluster.
                let end = offset.min(1 << cluster_bits);
                Some(Backing {
                    format: backing_format(file, u64::from(header_length), end)?,
                    path: backing_path(file, offset, u32_at(16))?,
                })
            }
        };
        Ok(Header {
            size: Size(u64_at(24)),
            backing,
            cluster_bits,
            encrypted: u32_at(32) != 0,
            incompatible_features,
            l1_offset: u64_at(40),
            l1_entries: u32_at(36),
            refcount_offset: u64_at(48),
            refcount_clusters: u32_at(56),
            refcount_order,
            snapshots: u32_at(60),
        })
    }

    /// Refuses an image whose content is partly in other files, which could be any file of this host.
    pub fn check_self_contained(&self) -> Result<()> {
        ensure!(
            self.backing.is_none(),
            "the image has a backing file; flatten it with `qemu-img convert`"
        );
        ensure!(
            self.incompatible_features & EXTERNAL_DATA_FILE == 0,
            "the image keeps its data in another file; flatten it with `qemu-img convert`"
        );
        Ok(())
    }
}

fn backing_path(file: &File, offset: u64, length: u32) -> Result<PathBuf> {
    ensure!(
        length <= LONGEST_BACKING_FILE,
        "invalid backing file name of {length} bytes"
    );
    let mut name = vec![0; length as usize];
    file.read_exact_at(&mut name, offset)
        .context("failed to read the name of the backing file")?;
    Ok(PathBuf::from(OsString::from_vec(name)))
}

/// The format that the header extensions between `next` and `end` name; of several the last one, as in QEMU.
fn backing_format(file: &File, mut next: u64, end: u64) -> Result<Option<String>> {
    let mut format = None;
    while next + 8 <= end {
        let mut head = [0; 8];
        file.read_exact_at(&mut head, next)?;
        let (kind, length) = (number(&head, 0, 4) as u32, number(&head, 4, 4));
        match kind {
            0 => break,
            BACKING_FORMAT => {
                ensure!(
                    length <= LONGEST_BACKING_FORMAT,
                    "invalid backing format name of {length} bytes"
                );
                let mut name = vec![0; length as usize];
                file.read_exact_at(&mut name, next + 8)?;
                format = Some(String::from_utf8(name)?);
            }
            _ => {}
        }
        next += 8 + length.next_multiple_of(8);
    }
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    /// A header of 1 GiB and its first cluster; `backing` is an offset.
    fn qcow2(version: u32, backing: u64, incompatible: u64) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(version.to_be_bytes());
        header.extend(backing.to_be_bytes());
        header.extend(5u32.to_be_bytes());
        header.extend(9u32.to_be_bytes());
        header.extend((1u64 << 30).to_be_bytes());
        header.resize(72, 0);
        header.extend(incompatible.to_be_bytes());
        header.resize(100, 0);
        header.extend((HEADER as u32).to_be_bytes());
        header.extend([0; 8]);
        header.extend(b"other");
        header.resize(512, 0);
        header
    }

    fn check(bytes: &[u8]) -> Result<()> {
        Header::open(file(bytes).path())?.check_self_contained()
    }

    #[test]
    fn a_qcow2_file_is_recognized_by_its_magic() {
        let is_qcow2 = |bytes: &[u8]| is_qcow2(file(bytes).path()).unwrap();
        assert!(is_qcow2(&qcow2(3, 0, 0)));
        assert!(is_qcow2(&MAGIC));
        assert!(!is_qcow2(b""));
        assert!(!is_qcow2(&[0; 512]));
    }

    #[test]
    fn size_and_backing_file_are_read_of_both_versions() {
        for version in [2, 3] {
            let header = Header::open(file(&qcow2(version, 112, 0)).path()).unwrap();
            assert_eq!(header.size, Size::gib(1));
            let backing = Backing {
                path: "other".into(),
                format: None,
            };
            assert_eq!(header.backing, Some(backing));
        }
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let refusal = |bytes: &[u8]| {
            let error = Header::open(file(bytes).path()).unwrap_err();
            error.root_cause().to_string()
        };
        let long = [&qcow2(3, 112, 0)[..16], &[0xff; 4], &qcow2(3, 112, 0)[20..]].concat();
        let cluster = [&qcow2(3, 0, 0)[..20], &[0xff; 4], &qcow2(3, 0, 0)[24..]].concat();
        assert_eq!(refusal(&MAGIC), "not a qcow2 image");
        assert_eq!(refusal(&[0; 512]), "not a qcow2 image");
        assert_eq!(refusal(&qcow2(4, 0, 0)), "unknown qcow2 version 4");
        assert_eq!(
            refusal(&long),
            "invalid backing file name of 4294967295 bytes"
        );
        assert_eq!(
            refusal(&cluster),
            "invalid cluster size of 2^4294967295 bytes"
        );
    }

    #[test]
    fn images_with_content_in_other_files_are_refused() {
        check(&qcow2(3, 0, 0)).unwrap();
        check(&qcow2(3, 112, 0)).unwrap_err();
        check(&qcow2(3, 0, EXTERNAL_DATA_FILE)).unwrap_err();
        // Version 2 has no features there.
        check(&qcow2(2, 0, EXTERNAL_DATA_FILE)).unwrap();
    }
}
