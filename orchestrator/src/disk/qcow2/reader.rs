//! Reads a disk by its own tables: what they do not name is not read. Memory: one table at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{COMPRESSED, COMPRESSION_TYPE, DIRTY, Header, OFFSET, ZERO, number};

/// An L1 table of this many bytes serves a disk of 2 PiB; QEMU has the same limit.
const LONGEST_L1: u64 = 32 << 20;

/// A qcow2 file that is only read.
#[derive(Debug)]
pub struct Disk {
    pub header: Header,
    pub(super) file: File,
    pub(super) path: PathBuf,
    length: u64,
    l1: Vec<u64>,
}

/// What a cluster of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// The backing file's, or zero without one.
    Absent,
    Zero,
    /// Where it is in the file.
    Data(u64),
    Compressed,
}

impl Disk {
    /// Opens a file and checks its header; nothing is opened that the header names.
    pub fn open(path: &Path) -> Result<Disk> {
        let file =
            File::open(path).with_context(|| format!("failed to open `{}`", path.display()))?;
        Disk::read(file, path)
            .with_context(|| format!("failed to read the disk `{}`", path.display()))
    }

    fn read(file: File, path: &Path) -> Result<Disk> {
        let header = Header::read(&file)?;
        let features = header.incompatible_features;
        ensure!(
            features & !(DIRTY | COMPRESSION_TYPE) == 0,
            "it keeps its data in another file, is damaged, or has unknown features (incompatible features {features:#x})"
        );
        ensure!(!header.encrypted, "it is encrypted");
        let (entries, size) = (u64::from(header.l1_entries), header.size.0);
        let per_l1_entry = 1u64 << (2 * header.cluster_bits - 3);
        ensure!(
            entries * 8 <= LONGEST_L1 && size.div_ceil(per_l1_entry) <= entries,
            "its L1 table has {entries} entries for {size} bytes"
        );
        let mut l1 = vec![0; entries as usize * 8];
        file.read_exact_at(&mut l1, header.l1_offset)
            .context("its L1 table is truncated")?;
        Ok(Disk {
            length: file.metadata()?.len(),
            l1: words(&l1),
            path: path.to_owned(),
            file,
            header,
        })
    }

    pub(super) fn cluster(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    pub(super) fn tables(&self) -> usize {
        self.l1.len()
    }

    /// Checks every table's entry, so that none points out of the file.
    pub fn check(&self) -> Result<()> {
        for index in 0..self.tables() {
            self.l2(index)?;
        }
        Ok(())
    }

    /// The clusters of one L2 table; none where there is no table.
    pub(super) fn l2(&self, index: usize) -> Result<Vec<Cluster>> {
        let at = self.l1[index] & OFFSET;
        if at == 0 {
            return Ok(Vec::new());
        }
        let damaged = || format!("the disk `{}` is damaged", self.path.display());
        let mut table = vec![0; self.cluster() as usize];
        self.check_offset(at, "an L2 table").with_context(damaged)?;
        self.file
            .read_exact_at(&mut table, at)
            .with_context(damaged)?;
        words(&table)
            .into_iter()
            .map(|entry| self.kind(entry).with_context(damaged))
            .collect()
    }

    fn kind(&self, entry: u64) -> Result<Cluster> {
        if entry & COMPRESSED != 0 {
            // Its offset has as many bits as the count of its sectors leaves of 62.
            let bits = 62 - (self.header.cluster_bits - 8);
            let at = entry & ((1 << bits) - 1);
            ensure!(
                at < self.length,
                "a compressed cluster is at {at}, beyond the end of the file"
            );
            return Ok(Cluster::Compressed);
        }
        let at = entry & OFFSET;
        Ok(match (entry & ZERO != 0, at) {
            (true, _) => Cluster::Zero,
            (false, 0) => Cluster::Absent,
            (false, at) => {
                self.check_offset(at, "a cluster")?;
                Cluster::Data(at)
            }
        })
    }

    fn check_offset(&self, at: u64, what: &str) -> Result<()> {
        ensure!(
            at.is_multiple_of(self.cluster()),
            "{what} is at {at}, inside another cluster"
        );
        // The last one may be shorter than a whole cluster.
        ensure!(
            at < self.length,
            "{what} is at {at}, beyond the end of the file"
        );
        Ok(())
    }

    /// Reads one cluster. The file's last one may be shorter; what is missing is zero.
    pub(super) fn read_cluster(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], at + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        buffer[done..].fill(0);
        Ok(())
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    words.map(|word| number(word, 0, 8)).collect()
}
