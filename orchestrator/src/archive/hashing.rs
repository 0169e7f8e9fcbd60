//! Digests of what is written.

use std::io::{self, Write};

use pspd_model::spec::Digest;
use sha2::{Digest as _, Sha256};

use super::manifest::Entry;

/// The digest of a file's bytes, and their number.
#[derive(Clone, Debug)]
pub struct Found {
    pub sha256: Digest,
    pub size: u64,
}

impl Found {
    /// Whether it is what the manifest says of a file.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        (&self.sha256, self.size) == (&entry.sha256, entry.size)
    }
}

/// Counts and digests what is written.
#[derive(Default)]
pub(super) struct Hashing {
    hasher: Sha256,
    count: u64,
}

impl Hashing {
    pub(super) fn end(self) -> Found {
        Found {
            sha256: Digest::from(self.hasher),
            size: self.count,
        }
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
