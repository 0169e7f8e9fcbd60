//! Checks a disk of others before QEMU opens it: all that it names is in the file, is used once, and is counted so.
//!
//! Takes as long as its tables are: each part of the file is visited once, and a table that is named twice is an error.

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::hint::Hinted;
use tokio_util::sync::CancellationToken;

use super::compressed::SECTOR;
use super::reader::{Cluster, Disk, words};
use super::{COMPRESSED, COPIED, DIRTY, LONGEST_HEADER, OFFSET, ZERO, number};
use crate::cancelled::Cancelled;

/// What removes parts that pspd does not know.
const REWRITE: &str = "Rewrite it with `qemu-img convert -O qcow2`";
/// QEMU's limit for the table of reference counts, in bytes.
const LONGEST_REFCOUNT_TABLE: u64 = 8 << 20;

/// How often each cluster of the file is used. Only compressed clusters share one.
struct Uses {
    counts: Vec<u16>,
    cluster: u64,
}

impl Uses {
    /// Counts the use of `length` bytes from `at` on, which no one else may use.
    fn take(&mut self, at: u64, length: u64, what: &str) -> Result<()> {
        for count in self.range(at, length)? {
            ensure!(
                *count == 0,
                "{what} is at {at}, where another part of the disk is"
            );
            *count = 1;
        }
        Ok(())
    }

    fn share(&mut self, at: u64, length: u64) -> Result<()> {
        for count in self.range(at, length)? {
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// The clusters that are in the file.
    fn range(&mut self, at: u64, length: u64) -> Result<&mut [u16]> {
        let end = at.checked_add(length).context("an offset is impossible")?;
        let count = self.counts.len();
        let first = (at / self.cluster) as usize;
        let last = end.div_ceil(self.cluster).min(count as u64) as usize;
        self.counts
            .get_mut(first..last)
            .with_context(|| format!("{at} is beyond the end of the file"))
    }
}

impl Disk {
    /// Refuses a disk that QEMU would refuse or change, now or later.
    pub fn check(&self, cancel: &CancellationToken) -> Result<()> {
        self.checked(cancel)
            .with_context(|| format!("the disk `{}` is damaged", self.path.display()))
    }

    fn checked(&self, cancel: &CancellationToken) -> Result<()> {
        let header = &self.header;
        ensure!(
            header.snapshots == 0,
            Hinted::new(
                format!("it has {} internal snapshots", header.snapshots),
                REWRITE
            )
        );
        // QEMU keeps both, and finds no room for another backing file's name.
        ensure!(
            header.length <= LONGEST_HEADER as u64,
            Hinted::new(
                format!(
                    "its header has unknown fields: {} bytes, and {LONGEST_HEADER} are known",
                    header.length
                ),
                REWRITE,
            )
        );
        if let Some(kind) = header.unknown_extension {
            bail!(Hinted::new(
                format!("it has the header extension {kind:#010x}"),
                REWRITE
            ));
        }
        let cluster = self.cluster();
        let mut uses = Uses {
            counts: vec![0; self.length.div_ceil(cluster) as usize],
            cluster,
        };
        uses.take(0, cluster, "the header")?;
        let l1 = self.tables() as u64 * 8;
        if l1 > 0 {
            uses.take(header.l1_offset, l1, "the L1 table")?;
        }
        for index in 0..self.tables() {
            if cancel.is_cancelled() {
                return Err(Cancelled::during("checking a disk").into());
            }
            self.check_l2(index, &mut uses)?;
        }
        self.check_refcounts(&mut uses)
    }

    fn check_l2(&self, index: usize, uses: &mut Uses) -> Result<()> {
        check_reserved(self.l1_flags(index) & !COPIED, "the L1 table")?;
        let Some((at, entries)) = self.l2_entries(index)? else {
            return Ok(());
        };
        let cluster = self.cluster();
        uses.take(at, cluster, "an L2 table")?;
        for entry in entries {
            if entry & COMPRESSED == 0 {
                check_reserved(entry & !(OFFSET | COPIED | ZERO), "an L2 table")?;
            }
            match self.kind(entry)? {
                Cluster::Compressed { at, sectors } => {
                    uses.share(at / SECTOR * SECTOR, sectors * SECTOR)?;
                }
                Cluster::Data(at) => uses.take(at, cluster, "a cluster")?,
                // It may have room reserved for what is written next.
                Cluster::Zero if entry & OFFSET != 0 => {
                    self.check_offset(entry & OFFSET, "a cluster")?;
                    uses.take(entry & OFFSET, cluster, "a cluster")?;
                }
                Cluster::Zero | Cluster::Absent => {}
            }
        }
        Ok(())
    }

    /// Compares the reference counts with the uses. Clusters that are counted and not used are only lost room.
    fn check_refcounts(&self, uses: &mut Uses) -> Result<()> {
        let header = &self.header;
        let (cluster, length) = (self.cluster(), self.refcount_table_length()?);
        let mut table = vec![0; length as usize];
        self.check_offset(header.refcount_offset, "the refcount table")?;
        uses.take(header.refcount_offset, length, "the refcount table")?;
        self.read_exact(&mut table, header.refcount_offset, "the refcount table")?;
        let blocks: Vec<u64> = words(&table).collect();
        for entry in &blocks {
            check_reserved(entry & !OFFSET, "the refcount table")?;
        }
        for at in blocks.iter().filter(|at| **at != 0) {
            self.check_offset(*at, "a refcount block")?;
            uses.take(*at, cluster, "a refcount block")?;
        }
        // QEMU counts again when it opens such a disk.
        if header.incompatible_features & DIRTY != 0 {
            return Ok(());
        }
        let bits = 1 << header.refcount_order;
        let per_block = (cluster * 8 / bits) as usize;
        let mut block = vec![0; cluster as usize];
        for (index, used) in uses.counts.chunks(per_block).enumerate() {
            match blocks.get(index).copied().unwrap_or_default() {
                0 => block.fill(0),
                at => self.read_exact(&mut block, at, "a refcount block")?,
            }
            for (place, used) in used.iter().enumerate() {
                let counted = refcount(&block, place, bits);
                if *used != 0 && *used != u16::MAX && counted != u64::from(*used) {
                    let at = (index * per_block + place) as u64 * cluster;
                    bail!("the cluster at {at} is used {used} times and counted {counted} times");
                }
            }
        }
        Ok(())
    }

    fn refcount_table_length(&self) -> Result<u64> {
        let header = &self.header;
        let length = u64::from(header.refcount_clusters) * self.cluster();
        ensure!(
            (1..=LONGEST_REFCOUNT_TABLE).contains(&length) && length <= self.length,
            "its refcount table has {} clusters",
            header.refcount_clusters
        );
        ensure!(
            header.refcount_order <= 6,
            "its reference counts have 2^{} bits",
            header.refcount_order
        );
        Ok(length)
    }
}

/// Bits that the format does not define. QEMU reports them as damage.
fn check_reserved(bits: u64, what: &str) -> Result<()> {
    ensure!(
        bits == 0,
        "{what} has an entry with reserved bits ({bits:#x})"
    );
    Ok(())
}

/// The count at a place of a block; counts of less than a byte begin at its lowest bit.
fn refcount(block: &[u8], place: usize, bits: u64) -> u64 {
    if bits >= 8 {
        let bytes = (bits / 8) as usize;
        return number(block, place * bytes, bytes);
    }
    let bit = place as u64 * bits;
    (u64::from(block[(bit / 8) as usize]) >> (bit % 8)) & ((1 << bits) - 1)
}
