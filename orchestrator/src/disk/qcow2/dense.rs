//! Writes a disk densely.
//!
//! A disk that a guest has used is full of gaps: clusters that were trimmed, tables in the order of first writes. The
//! dense copy has its clusters in the guest's order, none compressed, no gap, and the name of a backing file that is in the same folder. It
//! is written front to back, with its size known before: header, reference counts, L1 table, then each L2 table with its
//! clusters.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::gaps::Gaps;
use super::reader::{Cluster, Disk};
use super::{BACKING_FORMAT, COPIED, HEADER, MAGIC, ZERO};
use crate::cancelled::Cancelled;

/// How many clusters are read at once.
const BATCH: usize = 16;
/// How many bytes [`DenseCopy::write`] shows around what may be changed: more than a private key has.
const CONTEXT: usize = 16 << 10;

/// A dense copy that is to be written.
pub struct DenseCopy<'a> {
    disk: &'a Disk,
    backing: Option<String>,
    /// Clusters with data per L2 table; none where there is no table.
    tables: Vec<Option<u64>>,
    layout: Layout,
}

/// In clusters: how many there are of each part, in the file's order.
struct Layout {
    refcount_table: u64,
    refcount_blocks: u64,
    l1: u64,
    total: u64,
}

impl Layout {
    fn of(tables: &[Option<u64>], cluster: u64) -> Layout {
        let l1 = (tables.len() as u64 * 8).div_ceil(cluster);
        let content: u64 = tables.iter().flatten().map(|count| count + 1).sum();
        let mut layout = Layout {
            refcount_table: 1,
            refcount_blocks: 1,
            l1,
            total: 0,
        };
        // Reference counts count themselves: more of them until they suffice.
        loop {
            layout.total = layout.content() + content;
            let blocks = layout.total.div_ceil(cluster / 2);
            let table = (blocks * 8).div_ceil(cluster);
            if (blocks, table) == (layout.refcount_blocks, layout.refcount_table) {
                return layout;
            }
            (layout.refcount_blocks, layout.refcount_table) = (blocks, table);
        }
    }

    fn refcount_blocks(&self) -> u64 {
        1 + self.refcount_table
    }

    fn l1(&self) -> u64 {
        self.refcount_blocks() + self.refcount_blocks
    }

    /// Where the first L2 table is.
    fn content(&self) -> u64 {
        self.l1() + self.l1
    }
}

impl Disk {
    /// Plans the dense copy over `backing`, a qcow2 file that will be in the same folder.
    pub fn dense(
        &self,
        backing: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<DenseCopy<'_>> {
        let mut gaps = Gaps::default();
        let mut tables = Vec::new();
        for index in 0..self.tables() {
            if cancel.is_cancelled() {
                return Err(Cancelled::during("reading a disk").into());
            }
            let mut table = None;
            for cluster in self.l2(index)? {
                match self.settled(cluster, &mut gaps)? {
                    Cluster::Data(_) | Cluster::Compressed { .. } => *table.get_or_insert(0) += 1,
                    Cluster::Zero if backing.is_some() => _ = table.get_or_insert(0),
                    _ => {}
                }
            }
            tables.push(table);
        }
        Ok(DenseCopy {
            disk: self,
            backing: backing.map(str::to_owned),
            layout: Layout::of(&tables, self.cluster()),
            tables,
        })
    }

    /// A cluster as it is copied: data in a gap of the file is zero, and is not read.
    fn settled(&self, cluster: Cluster, gaps: &mut Gaps) -> Result<Cluster> {
        Ok(match cluster {
            Cluster::Data(at) if !gaps.has_data(&self.file, at, self.cluster())? => Cluster::Zero,
            cluster => cluster,
        })
    }
}

impl DenseCopy<'_> {
    /// How many bytes [`DenseCopy::write`] writes.
    pub fn length(&self) -> u64 {
        self.layout.total * self.disk.cluster()
    }

    /// Writes the copy; `alter` may change the content of adjacent clusters. It also receives up to 16 KiB before and
    /// after them, whose changes are dropped: they belong to other calls.
    pub fn write(&self, to: &mut dyn Write, alter: &dyn Fn(&mut [u8])) -> Result<()> {
        to.write_all(&self.header())?;
        self.write_refcounts(to)?;
        self.write_l1(to)?;
        let (mut gaps, mut next) = (Gaps::default(), self.layout.content());
        let (mut before, mut after) = (Vec::new(), None);
        for (index, table) in self.tables.iter().enumerate() {
            let clusters = match after.take() {
                Some(clusters) => clusters,
                None => self.clusters(index, &mut gaps)?,
            };
            let following = self.clusters(index + 1, &mut gaps)?;
            if table.is_some() {
                next = self.write_l2(to, &clusters, next)?;
                self.write_clusters(to, [&before, &clusters, &following], alter)?;
            }
            before = clusters;
            after = Some(following);
        }
        Ok(())
    }

    /// The clusters of a table as they are copied; none where there is no table.
    fn clusters(&self, index: usize, gaps: &mut Gaps) -> Result<Vec<Cluster>> {
        if self.tables.get(index).copied().flatten().is_none() {
            return Ok(Vec::new());
        }
        let clusters = self.disk.l2(index)?.into_iter();
        clusters.map(|one| self.disk.settled(one, gaps)).collect()
    }

    /// The header's cluster, with the backing file's format and name.
    fn header(&self) -> Vec<u8> {
        let cluster = self.disk.cluster();
        let layout = &self.layout;
        let mut extensions = Vec::new();
        let name = self.backing.as_deref().unwrap_or_default();
        if self.backing.is_some() {
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            extensions.extend(5u32.to_be_bytes());
            extensions.extend(b"qcow2\0\0\0");
        }
        extensions.extend([0; 8]);
        let name_at = if name.is_empty() {
            0
        } else {
            (HEADER + extensions.len()) as u64
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3u32.to_be_bytes());
        bytes.extend(name_at.to_be_bytes());
        bytes.extend((name.len() as u32).to_be_bytes());
        bytes.extend(self.disk.header.cluster_bits.to_be_bytes());
        bytes.extend(self.disk.header.size.0.to_be_bytes());
        // Not encrypted.
        bytes.extend(0u32.to_be_bytes());
        bytes.extend((self.tables.len() as u32).to_be_bytes());
        bytes.extend((layout.l1() * cluster).to_be_bytes());
        bytes.extend(cluster.to_be_bytes());
        bytes.extend((layout.refcount_table as u32).to_be_bytes());
        // No snapshots, no features.
        bytes.extend([0; 4 + 8 + 3 * 8]);
        // Reference counts of 2^4 bits.
        bytes.extend(4u32.to_be_bytes());
        bytes.extend((HEADER as u32).to_be_bytes());
        bytes.extend(extensions);
        bytes.extend(name.as_bytes());
        bytes.resize(cluster as usize, 0);
        bytes
    }

    /// Every cluster is in use once.
    fn write_refcounts(&self, to: &mut dyn Write) -> io::Result<()> {
        let (cluster, layout) = (self.disk.cluster(), &self.layout);
        let blocks =
            (0..layout.refcount_blocks).map(|block| (layout.refcount_blocks() + block) * cluster);
        write_words(to, blocks, layout.refcount_table * cluster)?;
        let per_block = cluster / 2;
        for block in 0..layout.refcount_blocks {
            let used = (layout.total - block * per_block).min(per_block);
            let mut bytes = [0u8, 1].repeat(used as usize);
            bytes.resize(cluster as usize, 0);
            to.write_all(&bytes)?;
        }
        Ok(())
    }

    fn write_l1(&self, to: &mut dyn Write) -> io::Result<()> {
        let (cluster, mut next) = (self.disk.cluster(), self.layout.content());
        let entries = self.tables.iter().map(|table| {
            let at = next * cluster;
            next += table.map_or(0, |count| count + 1);
            table.map_or(0, |_| at | COPIED)
        });
        write_words(to, entries, self.layout.l1 * cluster)
    }

    /// Writes the table at cluster `at`, which its data follows. Returns the number of the cluster after both.
    fn write_l2(&self, to: &mut dyn Write, clusters: &[Cluster], at: u64) -> io::Result<u64> {
        let (cluster, mut next) = (self.disk.cluster(), at + 1);
        let entries = clusters.iter().map(|one| match one {
            Cluster::Data(_) | Cluster::Compressed { .. } => {
                next += 1;
                ((next - 1) * cluster) | COPIED
            }
            Cluster::Zero if self.backing.is_some() => ZERO,
            _ => 0,
        });
        write_words(to, entries, cluster)?;
        Ok(next)
    }

    /// Writes the data of the second of three tables, which are adjacent on the guest's disk.
    fn write_clusters(
        &self,
        to: &mut dyn Write,
        tables: [&[Cluster]; 3],
        alter: &dyn Fn(&mut [u8]),
    ) -> Result<()> {
        let cluster = self.disk.cluster() as usize;
        let around = CONTEXT.div_ceil(cluster);
        let [before, own, after] = tables;
        let before = &before[before.len().saturating_sub(around)..];
        let after = &after[..after.len().min(around)];
        let own = before.len()..before.len() + own.len();
        let all = [before, tables[1], after].concat();
        let at = |index: usize| match all.get(index) {
            Some(one @ (Cluster::Data(_) | Cluster::Compressed { .. })) => Some(*one),
            _ => None,
        };
        let mut next = own.start;
        while next < own.end {
            if at(next).is_none() {
                next += 1;
                continue;
            }
            let limit = own.end.min(next + BATCH);
            let end = (next..limit).take_while(|index| at(*index).is_some());
            let end = next + end.count();
            let begin = (next.saturating_sub(around)..next).rev();
            let begin = next - begin.take_while(|index| at(*index).is_some()).count();
            let shown = (end..end + around).take_while(|index| at(*index).is_some());
            let shown = begin..end + shown.count();
            let mut buffer = vec![0; shown.len() * cluster];
            for (part, place) in buffer.chunks_exact_mut(cluster).zip(shown.filter_map(at)) {
                let read = self.disk.read_cluster(part, place);
                read.with_context(|| format!("failed to read `{}`", self.disk.path.display()))?;
            }
            let changed = (next - begin) * cluster..(end - begin) * cluster;
            let from = changed.start.saturating_sub(CONTEXT);
            let until = buffer.len().min(changed.end + CONTEXT);
            alter(&mut buffer[from..until]);
            to.write_all(&buffer[changed])?;
            next = end;
        }
        Ok(())
    }
}

fn write_words(
    to: &mut dyn Write,
    words: impl Iterator<Item = u64>,
    length: u64,
) -> io::Result<()> {
    let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
    bytes.resize(length as usize, 0);
    to.write_all(&bytes)
}
