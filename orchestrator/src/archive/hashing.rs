//! Digests of what is written.

use std::io::{self, Write};

use pspd_model::spec::Digest;
use sha2::{Digest as _, Sha256};

/// Counts and digests what is written.
#[derive(Default)]
pub(super) struct Hashing {
    hasher: Sha256,
    count: u64,
}

impl Hashing {
    pub(super) fn end(self) -> (Digest, u64) {
        (Digest::from(self.hasher), self.count)
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
