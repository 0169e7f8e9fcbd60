//! The header of a qcow2 file.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Size;

use super::extensions::Extensions;
use super::{COMPRESSION_TYPE, EXTERNAL_DATA_FILE, HEADER, HEADER_V2, MAGIC, number, read_filled};

/// The longest name that the format allows, in bytes.
const LONGEST_BACKING_FILE: u64 = 1023;
/// What makes an image self-contained.
const FLATTEN: &str = "Flatten it with `qemu-img convert`";
/// The types of compression.
const ZLIB: u8 = 0;
const ZSTD: u8 = 1;

/// What a qcow2 file says of itself.
#[derive(Clone, Debug)]
pub struct Header {
    /// The size that a guest sees.
    pub size: Size,
    /// The file that has what this one lacks.
    pub backing: Option<Backing>,
    pub(super) version: u32,
    /// Of the header without its extensions, in bytes.
    pub(super) length: u64,
    pub(super) cluster_bits: u32,
    pub(super) compression: Compression,
    pub(super) encrypted: bool,
    pub(super) incompatible_features: u64,
    pub(super) autoclear_features: u64,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u32,
    pub(super) refcount_offset: u64,
    pub(super) refcount_clusters: u32,
    /// Reference counts have 2 to this power bits.
    pub(super) refcount_order: u32,
    /// How many internal snapshots the file has, and where.
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
    /// The kind of an extension that pspd does not know.
    pub(super) unknown_extension: Option<u32>,
}

/// How a file compresses its clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Deflate, without a header.
    Zlib,
    Zstd,
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

    /// Refuses what QEMU refuses before it reads a table.
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
        let version = u32_at(4);
        let (incompatible_features, autoclear_features, header_length, refcount_order) =
            match version {
                2 => (0, 0, HEADER_V2 as u64, 4),
                3 if length == HEADER => {
                    (u64_at(72), u64_at(88), number(&bytes, 100, 4), u32_at(96))
                }
                version => bail!("unknown qcow2 version {version}"),
            };
        let cluster_bits = u32_at(20);
        ensure!(
            (9..=21).contains(&cluster_bits),
            "invalid cluster size of 2^{cluster_bits} bytes"
        );
        let mut cluster = vec![0; 1 << cluster_bits];
        read_filled(file, &mut cluster, 0)?;
        let end = cluster.len() as u64;
        let least = if version == 2 { HEADER_V2 } else { HEADER } as u64;
        ensure!(
            (least..=end).contains(&header_length) && header_length.is_multiple_of(8),
            "its header has {header_length} bytes; expected {least} to {end}, in steps of 8"
        );
        let compression = compression(&cluster[..header_length as usize], incompatible_features)?;
        let backing_at = u64_at(8);
        let backing = match backing_at {
            0 => None,
            offset => Some(backing_path(file, offset, u64::from(u32_at(16)), end)?),
        };
        // They end where the name begins.
        let end = if backing_at == 0 { end } else { backing_at };
        let extensions = cluster.get(header_length as usize..end as usize);
        let extensions = Extensions::read(extensions.unwrap_or_default())?;
        Ok(Header {
            size: Size(u64_at(24)),
            backing: backing.map(|path| Backing {
                path,
                format: extensions.backing_format,
            }),
            version,
            length: header_length,
            cluster_bits,
            compression,
            encrypted: u32_at(32) != 0,
            incompatible_features,
            autoclear_features,
            l1_offset: u64_at(40),
            l1_entries: u32_at(36),
            refcount_offset: u64_at(48),
            refcount_clusters: u32_at(56),
            refcount_order,
            snapshots: u32_at(60),
            snapshots_offset: u64_at(64),
            unknown_extension: extensions.other,
        })
    }

    /// Refuses an image whose content is partly in other files, which could be any file of this host.
    pub fn check_self_contained(&self) -> Result<()> {
        ensure!(
            self.backing.is_none(),
            Hinted::new("the image has a backing file", FLATTEN)
        );
        ensure!(
            self.incompatible_features & EXTERNAL_DATA_FILE == 0,
            Hinted::new("the image keeps its data in another file", FLATTEN)
        );
        Ok(())
    }
}

/// The type is the field behind [`HEADER`], zlib where the header ends before it. The feature marks any other.
fn compression(header: &[u8], features: u64) -> Result<Compression> {
    let kind = header.get(HEADER).copied().unwrap_or_default();
    let marked = features & COMPRESSION_TYPE != 0;
    match (kind, marked) {
        (ZLIB, false) => Ok(Compression::Zlib),
        (ZSTD, true) => Ok(Compression::Zstd),
        _ => bail!("invalid compression type {kind} (incompatible features {features:#x})"),
    }
}

/// The name of the backing file, which is in the first cluster of `cluster` bytes.
fn backing_path(file: &File, offset: u64, length: u64, cluster: u64) -> Result<PathBuf> {
    ensure!(
        length <= LONGEST_BACKING_FILE,
        "invalid backing file name of {length} bytes"
    );
    ensure!(
        offset.saturating_add(length) <= cluster,
        "the name of its backing file is at {offset}, beyond the first cluster"
    );
    let mut name = vec![0; length as usize];
    file.read_exact_at(&mut name, offset)
        .context("failed to read the name of the backing file")?;
    Ok(PathBuf::from(OsString::from_vec(name)))
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
