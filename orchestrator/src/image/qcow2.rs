//! Reads the header of a disk image, which may be hostile: nothing is opened that the header names.
//!
//! Format: QEMU's docs/interop/qcow2.rst. Numbers are big-endian.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::spec::Size;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Incompatible feature: the data is in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// What a file is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Qcow2,
    /// No format's magic is known of it.
    Raw,
}

/// Tells a qcow2 file from anything else.
pub fn detect(path: &Path) -> Result<Format> {
    let header = header(path)?;
    Ok(if header.starts_with(&MAGIC) {
        Format::Qcow2
    } else {
        Format::Raw
    })
}

/// Refuses an image whose content is partly in other files, which could be any file of this host.
pub fn check_self_contained(path: &Path) -> Result<()> {
    let header = qcow2_header(path)?;
    if number(&header, 8, 8) != 0 {
        bail!(
            "image `{}` has a backing file: flatten it with `qemu-img convert`",
            path.display()
        );
    }
    if number(&header, 4, 4) >= 3 && number(&header, 72, 8) & EXTERNAL_DATA_FILE != 0 {
        bail!(
            "image `{}` keeps its data in another file: flatten it with `qemu-img convert`",
            path.display()
        );
    }
    Ok(())
}

/// The size that a guest sees.
pub fn virtual_size(path: &Path) -> Result<Size> {
    Ok(Size(number(&qcow2_header(path)?, 24, 8)))
}

fn qcow2_header(path: &Path) -> Result<Vec<u8>> {
    let header = header(path)?;
    // Version 2 has 72 bytes; shorter is no header.
    if !header.starts_with(&MAGIC) || header.len() < 72 {
        bail!("`{}` is not a qcow2 file", path.display());
    }
    Ok(header)
}

fn header(path: &Path) -> Result<Vec<u8>> {
    let mut header = Vec::new();
    let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    file.take(104)
        .read_to_end(&mut header)
        .with_context(|| format!("reading the header of `{}`", path.display()))?;
    Ok(header)
}

/// The big-endian number at `offset`; bytes that are missing count as zero.
fn number(header: &[u8], offset: usize, length: usize) -> u64 {
    (offset..offset + length).fold(0, |value, at| {
        value << 8 | u64::from(header.get(at).copied().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn qcow2(backing: u64, incompatible: u64) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(3u32.to_be_bytes());
        header.extend(backing.to_be_bytes());
        header.extend([0; 8]);
        header.extend((1u64 << 30).to_be_bytes());
        header.resize(72, 0);
        header.extend(incompatible.to_be_bytes());
        header.resize(104, 0);
        header
    }

    #[test]
    fn formats_are_told_apart() {
        assert_eq!(detect(file(&qcow2(0, 0)).path()).unwrap(), Format::Qcow2);
        assert_eq!(detect(file(b"").path()).unwrap(), Format::Raw);
        assert_eq!(detect(file(&[0; 512]).path()).unwrap(), Format::Raw);
        assert_eq!(
            virtual_size(file(&qcow2(0, 0)).path()).unwrap(),
            Size::gib(1)
        );
    }

    #[test]
    fn images_that_reach_into_other_files_are_refused() {
        assert!(check_self_contained(file(&qcow2(0, 0)).path()).is_ok());
        assert!(check_self_contained(file(&qcow2(104, 0)).path()).is_err());
        assert!(check_self_contained(file(&qcow2(0, EXTERNAL_DATA_FILE)).path()).is_err());
        assert!(check_self_contained(file(&MAGIC).path()).is_err());
    }
}
