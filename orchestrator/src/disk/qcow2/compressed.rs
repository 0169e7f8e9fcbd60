//! Clusters that are compressed, each on its own. Takes memory for one, whatever its bytes are.

use std::io::{self, Read as _};

use flate2::{Decompress, FlushDecompress};

use super::header::Compression;
use super::read_filled;
use super::reader::Disk;

/// A sector of a compressed cluster, in bytes.
pub(super) const SECTOR: u64 = 512;

impl Disk {
    /// Reads the cluster that begins at `at` and touches `sectors`. What follows it in the last one belongs to others.
    pub(super) fn read_compressed(
        &self,
        buffer: &mut [u8],
        at: u64,
        sectors: u64,
    ) -> io::Result<()> {
        let mut packed = vec![0; (sectors * SECTOR - at % SECTOR) as usize];
        read_filled(&self.file, &mut packed, at)?;
        match self.header.compression {
            Compression::Zlib => {
                let mut stream = Decompress::new(false);
                stream.decompress(&packed, buffer, FlushDecompress::Finish)?;
                match stream.total_out() == buffer.len() as u64 {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Compression::Zstd => {
                zstd::stream::read::Decoder::with_buffer(&packed[..])?.read_exact(buffer)
            }
        }
    }
}
