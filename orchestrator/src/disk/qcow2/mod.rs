//! The qcow2 format: QEMU's docs/interop/qcow2.rst. Numbers are big-endian.
//!
//! A file may be hostile. Nothing is opened that it names, and nothing is allocated or read that it does not contain.
//!
//! ```text
//! header --> size, backing file     (Header: all that observing and checking an image take)
//!   L1 table --> L2 tables --> clusters     (Disk: reads and checks them, DenseCopy: writes them without gaps)
//! ```

mod check;
mod compressed;
mod dense;
mod extensions;
mod gaps;
mod header;
mod reader;
pub mod stamp;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

pub use dense::DenseCopy;
pub use header::{Backing, Header, is_qcow2};
pub use reader::Disk;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Lengths of the header in bytes: of version 2, the least of version 3, and with all fields that are known.
const HEADER_V2: usize = 72;
const HEADER: usize = 104;
const LONGEST_HEADER: usize = 112;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Incompatible features: an unclean end with lazy reference counts, data in another file, a compression other than zlib.
const DIRTY: u64 = 1 << 0;
const EXTERNAL_DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
/// An autoclear feature: the data in another file is raw.
const DATA_FILE_RAW: u64 = 1 << 1;
/// Bits of a table's entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1 << 0;

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length]
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Reads a cluster. The file's last one may be shorter; what is missing is zero.
fn read_filled(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    buffer[done..].fill(0);
    Ok(())
}
