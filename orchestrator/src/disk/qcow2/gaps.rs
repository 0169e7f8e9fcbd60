//! Where a sparse file has data.

use std::fs::File;
use std::ops::Range;

use anyhow::{Context as _, Result};
use rustix::fs::SeekFrom;

const FAILED: &str = "failed to find the gaps of a sparse file";

/// Answers from the last data and the last gap that were found: clusters are asked for nearly in order.
#[derive(Default)]
pub(super) struct Gaps {
    data: Range<u64>,
    gap: Range<u64>,
}

impl Gaps {
    /// Whether any of `length` bytes from `at` on is data.
    pub(super) fn has_data(&mut self, file: &File, at: u64, length: u64) -> Result<bool> {
        let end = at + length;
        if self.data.contains(&at) {
            return Ok(true);
        }
        if self.gap.contains(&at) && self.gap.contains(&(end - 1)) {
            return Ok(false);
        }
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a gap up to the end.
            Err(rustix::io::Errno::NXIO) => u64::MAX,
            Err(error) => return Err(error).context(FAILED),
        };
        if data >= end {
            self.gap = at..data;
            return Ok(false);
        }
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).context(FAILED)?;
        self.data = data..hole;
        Ok(true)
    }
}
