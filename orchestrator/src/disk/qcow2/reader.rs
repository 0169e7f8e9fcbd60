//! Reads a disk by its own tables: what they do not name is not read. Memory: one table at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{
    COMPRESSED, COMPRESSION_TYPE, COPIED, DATA_FILE_RAW, DIRTY, Header, OFFSET, ZERO, number,
    read_filled,
};

/// An L1 table of this many bytes serves a disk of 2 PiB; QEMU has the same limit.
const LONGEST_L1: u64 = 32 << 20;

/// A qcow2 file that is only read.
#[derive(Debug)]
pub struct Disk {
    pub header: Header,
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Of the file, in bytes.
    pub(super) length: u64,
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
    /// Where it begins in the file, and how many sectors of 512 bytes it touches.
    Compressed {
        at: u64,
        sectors: u64,
    },
}

impl Disk {
    /// Opens a file and checks its header; nothing is opened that the header names.
    pub fn open(path: &Path) -> Result<Disk> {
        let file =
            File::open(path).with_context(|| format!("failed to open `{}`", path.display()))?;
        Disk::of(file, path)
    }

    /// Like [`Disk::open`], of an open file; `path` is its name for messages.
    pub fn of(file: File, path: &Path) -> Result<Disk> {
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
        ensure!(
            header.autoclear_features & DATA_FILE_RAW == 0,
            "it says that another file has its data, and names none (autoclear features {:#x})",
            header.autoclear_features
        );
        ensure!(!header.encrypted, "it is encrypted");
        let (entries, size) = (u64::from(header.l1_entries), header.size.0);
        let per_l1_entry = 1u64 << (2 * header.cluster_bits - 3);
        ensure!(
            entries * 8 <= LONGEST_L1 && size.div_ceil(per_l1_entry) <= entries,
            "its L1 table has {entries} entries for {size} bytes"
        );
        ensure!(
            header.l1_offset.is_multiple_of(1 << header.cluster_bits)
                && i64::try_from(header.l1_offset).is_ok(),
            "its L1 table is at {}, inside a cluster or beyond any file",
            header.l1_offset
        );
        // QEMU refuses this of a file without snapshots, too.
        ensure!(
            header
                .snapshots_offset
                .is_multiple_of(1 << header.cluster_bits)
                && i64::try_from(header.snapshots_offset).is_ok(),
            "its snapshot table is at {}, inside a cluster or beyond any file",
            header.snapshots_offset
        );
        let length = file.metadata()?.len();
        ensure!(
            entries == 0 || header.l1_offset.saturating_add(entries * 8) <= length,
            "its L1 table is truncated"
        );
        let l1 = read_l1(&file, header.l1_offset, entries as usize)
            .context("failed to read its L1 table")?;
        Ok(Disk {
            length,
            l1,
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

    /// The clusters of one L2 table; none where there is no table.
    pub(super) fn l2(&self, index: usize) -> Result<Vec<Cluster>> {
        let damaged = || format!("the disk `{}` is damaged", self.path.display());
        let entries = self.l2_entries(index).with_context(damaged)?;
        let entries = entries.map(|(_, entries)| entries).unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| self.kind(entry).with_context(damaged))
            .collect()
    }

    /// What an entry of the L1 table has beside its offset.
    pub(super) fn l1_flags(&self, index: usize) -> u64 {
        self.l1[index] & !OFFSET
    }

    /// Where an L2 table is, and its entries; `None` where there is no table.
    pub(super) fn l2_entries(&self, index: usize) -> Result<Option<(u64, Vec<u64>)>> {
        let at = self.l1[index] & OFFSET;
        if at == 0 {
            return Ok(None);
        }
        let mut table = vec![0; self.cluster() as usize];
        self.check_offset(at, "an L2 table")?;
        self.read_exact(&mut table, at, "an L2 table")?;
        Ok(Some((at, words(&table).collect())))
    }

    pub(super) fn read_exact(&self, buffer: &mut [u8], at: u64, what: &str) -> Result<()> {
        self.file
            .read_exact_at(buffer, at)
            .with_context(|| format!("failed to read {what} at {at}"))
    }

    pub(super) fn kind(&self, entry: u64) -> Result<Cluster> {
        if entry & COMPRESSED != 0 {
            // Its offset has as many bits as the count of its sectors leaves of 62.
            let bits = 62 - (self.header.cluster_bits - 8);
            let at = entry & ((1 << bits) - 1);
            ensure!(
                at < self.length,
                "a compressed cluster is at {at}, beyond the end of the file"
            );
            let more = (entry & !COMPRESSED & !COPIED) >> bits;
            return Ok(Cluster::Compressed {
                at,
                sectors: more + 1,
            });
        }
        // QEMU stops the guest that reads there.
        ensure!(
            entry & ZERO == 0 || self.header.version > 2,
            "it has a cluster of zeros, which version 2 does not have"
        );
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

    pub(super) fn check_offset(&self, at: u64, what: &str) -> Result<()> {
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

    /// Reads what a guest sees of one cluster.
    pub(super) fn read_cluster(&self, buffer: &mut [u8], cluster: Cluster) -> io::Result<()> {
        match cluster {
            Cluster::Data(at) => read_filled(&self.file, buffer, at),
            Cluster::Compressed { at, sectors } => self.read_compressed(buffer, at, sectors),
            Cluster::Zero | Cluster::Absent => {
                buffer.fill(0);
                Ok(())
            }
        }
    }
}

/// A part at a time: the table may be long, and is in memory once.
fn read_l1(file: &File, mut at: u64, entries: usize) -> io::Result<Vec<u64>> {
    let mut l1 = Vec::with_capacity(entries);
    let mut buffer = vec![0; 64 << 10];
    while l1.len() < entries {
        let part = &mut buffer[..((entries - l1.len()) * 8).min(64 << 10)];
        file.read_exact_at(part, at)?;
        at += part.len() as u64;
        l1.extend(words(part));
    }
    Ok(l1)
}

pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|word| number(word, 0, 8))
}
