//! Gzip on all cores: a member for each block. Concatenated members are one gzip file (RFC 1952, 2.2), and every reader
//! accepts that.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Of a member: its own costs, a window of 32 KiB and a header, are small in comparison.
const BLOCK: usize = 4 << 20;

/// A compressing writer; [`Members::finish`] ends it.
pub(super) struct Members {
    file: File,
    block: Vec<u8>,
    /// In the file's order.
    running: VecDeque<JoinHandle<io::Result<Vec<u8>>>>,
    threads: usize,
}

impl Members {
    pub(super) fn new(file: File, threads: usize) -> Members {
        Members {
            file,
            block: Vec::with_capacity(BLOCK),
            running: VecDeque::new(),
            threads,
        }
    }

    /// Writes what is left, and gives the file back.
    pub(super) fn finish(mut self) -> io::Result<File> {
        self.end_block()?;
        while !self.running.is_empty() {
            self.write_oldest()?;
        }
        Ok(self.file)
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.running.len() >= self.threads {
            self.write_oldest()?;
        }
        let block = mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.running.push_back(std::thread::spawn(move || {
            let mut member = GzEncoder::new(Vec::new(), Compression::default());
            member.write_all(&block)?;
            member.finish()
        }));
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.running.pop_front() else {
            return Ok(());
        };
        let member = oldest
            .join()
            .map_err(|_| io::Error::other("a thread that compresses panicked"))??;
        self.file.write_all(&member)
    }
}

impl Write for Members {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.end_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
