//! Reads a qcow2 file's own tables, and writes the same disk densely: what the tables don't name is not read.
//!
//! A disk that a guest has used is full of gaps: clusters that were trimmed, tables in the order of first writes. The
//! dense copy has its clusters in the guest's order, no gap, and a backing file's name that is beside it. It is written
//! front to back, its size known before: header, reference counts, L1 table, then each L2 table with its clusters.
//!
//! Format: QEMU's docs/interop/qcow2.rst. Numbers are big-endian. Memory: one table at a time.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::SeekFrom;

use crate::spec::Size;

const MAGIC: u32 = 0x5146_49fb;
const HEADER: u64 = 104;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Incompatible features: an unclean end with lazy reference counts, and another compression than zlib.
const DIRTY: u64 = 1;
const COMPRESSION_TYPE: u64 = 1 << 3;
/// An L1 table of this many bytes serves a disk of 2 PiB; QEMU has the same limit.
const LONGEST_L1: u64 = 32 << 20;

/// A qcow2 file that is only read.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    length: u64,
    cluster_bits: u32,
    pub size: Size,
    /// The backing file's name as it is written there, with its format.
    pub backing: Option<(String, Option<String>)>,
    l1: Vec<u64>,
}

/// What a cluster of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
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
        let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
        Disk::read(file, path).with_context(|| format!("reading the disk `{}`", path.display()))
    }

    /// [`Disk::open`] of an open file; `path` is for messages.
    pub fn read(file: File, path: &Path) -> Result<Disk> {
        let length = file.metadata()?.len();
        let mut header = [0; HEADER as usize];
        let have = HEADER.min(length) as usize;
        file.read_exact_at(&mut header[..have], 0)?;
        let u32_at = |at: usize| number(&header, at, 4) as u32;
        let u64_at = |at: usize| number(&header, at, 8);
        ensure!(have >= 72 && u32_at(0) == MAGIC, "it is no qcow2 file");
        let version = u32_at(4);
        ensure!(
            version == 2 || (version == 3 && have as u64 == HEADER),
            "it has the unknown version {version} of qcow2"
        );
        let features = if version == 3 { u64_at(72) } else { 0 };
        ensure!(
            features & !(DIRTY | COMPRESSION_TYPE) == 0,
            "it keeps its data in another file, is damaged or is of a kind that is not known (incompatible features {features:#x})"
        );
        ensure!(u32_at(32) == 0, "it is encrypted");
        let cluster_bits = u32_at(20);
        ensure!(
            (9..=21).contains(&cluster_bits),
            "it has clusters of 2^{cluster_bits} bytes"
        );
        let size = u64_at(24);
        let entries = u64::from(u32_at(36));
        let per_l1 = 1u64 << (2 * cluster_bits - 3);
        ensure!(
            entries * 8 <= LONGEST_L1 && size.div_ceil(per_l1) <= entries,
            "its L1 table has {entries} entries for {size} bytes"
        );
        let mut l1 = vec![0; entries as usize * 8];
        file.read_exact_at(&mut l1, u64_at(40))
            .context("its L1 table is cut short")?;
        let header_length = if version == 3 {
            u64::from(u32_at(100))
        } else {
            72
        };
        let mut disk = Disk {
            backing: None,
            l1: words(&l1),
            path: path.to_owned(),
            size: Size(size),
            file,
            length,
            cluster_bits,
        };
        if u64_at(8) != 0 {
            disk.backing = Some(disk.backing_name(u64_at(8), u32_at(16), header_length)?);
        }
        Ok(disk)
    }

    fn backing_name(
        &self,
        at: u64,
        length: u32,
        extensions: u64,
    ) -> Result<(String, Option<String>)> {
        ensure!(length <= 1023, "its backing file's name has {length} bytes");
        let text = |at: u64, length: u32| -> Result<String> {
            let mut bytes = vec![0; length as usize];
            self.file.read_exact_at(&mut bytes, at)?;
            Ok(String::from_utf8(bytes)?)
        };
        let (mut next, mut format) = (extensions, None);
        while next + 8 <= at.min(self.cluster()) {
            let mut head = [0; 8];
            self.file.read_exact_at(&mut head, next)?;
            let (kind, size) = (number(&head, 0, 4) as u32, number(&head, 4, 4));
            match kind {
                0 => break,
                BACKING_FORMAT => {
                    ensure!(size <= 16, "its backing format's name has {size} bytes");
                    format = Some(text(next + 8, size as u32)?);
                }
                _ => {}
            }
            next += 8 + size.next_multiple_of(8);
        }
        Ok((text(at, length)?, format))
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Checks every table's entry, so that nothing points out of the file.
    pub fn check(&self) -> Result<()> {
        for index in 0..self.l1.len() {
            self.l2(index)?;
        }
        Ok(())
    }

    /// The clusters of one L2 table; none where there is no table.
    fn l2(&self, index: usize) -> Result<Vec<Cluster>> {
        let at = self.l1[index] & OFFSET;
        if at == 0 {
            return Ok(Vec::new());
        }
        let damaged = || format!("the disk `{}` is damaged", self.path.display());
        let mut table = vec![0; self.cluster() as usize];
        self.inside(at, "an L2 table").with_context(damaged)?;
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
            // Its offset has as many bits as are left of 62 by the count of its sectors.
            let bits = 62 - (self.cluster_bits - 8);
            let at = entry & ((1 << bits) - 1);
            ensure!(at < self.length, "a compressed cluster is behind its end");
            return Ok(Cluster::Compressed);
        }
        let at = entry & OFFSET;
        Ok(match (entry & ZERO != 0, at) {
            (true, _) => Cluster::Zero,
            (false, 0) => Cluster::Absent,
            (false, at) => {
                self.inside(at, "a cluster")?;
                Cluster::Data(at)
            }
        })
    }

    fn inside(&self, at: u64, what: &str) -> Result<()> {
        ensure!(
            at.is_multiple_of(self.cluster()),
            "{what} is at {at}, which is inside of another"
        );
        // The last one may be shorter than a whole cluster.
        ensure!(at < self.length, "{what} is at {at}, behind its end");
        Ok(())
    }

    /// Plans the dense copy over `backing`, a qcow2 file that will be beside it.
    pub fn dense(&self, backing: Option<&str>) -> Result<Dense<'_>> {
        let mut gaps = Gaps::default();
        let mut tables = Vec::new();
        for index in 0..self.l1.len() {
            let mut table = None;
            for cluster in self.l2(index)? {
                match self.settled(cluster, &mut gaps)? {
                    Cluster::Data(_) => *table.get_or_insert(0) += 1,
                    Cluster::Zero if backing.is_some() => _ = table.get_or_insert(0),
                    _ => {}
                }
            }
            tables.push(table);
        }
        Ok(Dense {
            disk: self,
            backing: backing.map(str::to_owned),
            layout: Layout::of(&tables, self.cluster()),
            tables,
        })
    }

    /// A cluster as it is copied: data in a gap of the file is zero, and is not read.
    fn settled(&self, cluster: Cluster, gaps: &mut Gaps) -> Result<Cluster> {
        Ok(match cluster {
            Cluster::Compressed => bail!(
                "the disk `{}` has compressed clusters; rewrite it with `qemu-img convert -O qcow2`",
                self.path.display()
            ),
            Cluster::Data(at) if !gaps.has_data(&self.file, at, self.cluster())? => Cluster::Zero,
            cluster => cluster,
        })
    }
}

/// Where a sparse file has data, remembering the last answer: clusters are asked for nearly in order.
#[derive(Default)]
struct Gaps {
    data: std::ops::Range<u64>,
    gap: std::ops::Range<u64>,
}

impl Gaps {
    fn has_data(&mut self, file: &File, at: u64, length: u64) -> Result<bool> {
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
            Err(error) => return Err(error).context("looking for a file's gaps"),
        };
        if data >= end {
            self.gap = at..data;
            return Ok(false);
        }
        let hole =
            rustix::fs::seek(file, SeekFrom::Hole(data)).context("looking for a file's gaps")?;
        self.data = data..hole;
        Ok(true)
    }
}

/// A dense copy that is to be written.
pub struct Dense<'a> {
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
        loop {
            layout.total = 1 + layout.refcount_table + layout.refcount_blocks + l1 + content;
            let blocks = layout.total.div_ceil(cluster / 2);
            let table = (blocks * 8).div_ceil(cluster);
            if (blocks, table) == (layout.refcount_blocks, layout.refcount_table) {
                return layout;
            }
            (layout.refcount_blocks, layout.refcount_table) = (blocks, table);
        }
    }
}

impl Dense<'_> {
    /// How many bytes [`Dense::write`] writes.
    pub fn length(&self) -> u64 {
        self.layout.total * self.disk.cluster()
    }

    /// Writes the copy; `alter` may change what a cluster has.
    pub fn write(&self, to: &mut dyn Write, alter: &dyn Fn(&mut [u8])) -> Result<()> {
        let (cluster, layout) = (self.disk.cluster(), &self.layout);
        to.write_all(&self.header())?;
        let blocks = 1 + layout.refcount_table;
        let table = (0..layout.refcount_blocks).map(|block| (blocks + block) * cluster);
        write_words(to, table, layout.refcount_table * cluster)?;
        for block in 0..layout.refcount_blocks {
            let per_block = cluster / 2;
            let used = (layout.total - block * per_block).min(per_block);
            let mut bytes = [0u8, 1].repeat(used as usize);
            bytes.resize(cluster as usize, 0);
            to.write_all(&bytes)?;
        }
        let mut next = blocks + layout.refcount_blocks + layout.l1;
        let l1 = self.tables.iter().map(|table| {
            let at = next * cluster;
            next += table.map_or(0, |count| count + 1);
            table.map_or(0, |_| at | COPIED)
        });
        write_words(to, l1, layout.l1 * cluster)?;
        let mut next = blocks + layout.refcount_blocks + layout.l1;
        let (mut gaps, mut buffer) = (Gaps::default(), vec![0; cluster as usize]);
        for (index, table) in self.tables.iter().enumerate() {
            if table.is_none() {
                continue;
            }
            let mut clusters = self.disk.l2(index)?;
            for one in &mut clusters {
                *one = self.disk.settled(*one, &mut gaps)?;
            }
            next += 1;
            let entries = clusters.iter().map(|one| match one {
                Cluster::Data(_) => {
                    next += 1;
                    ((next - 1) * cluster) | COPIED
                }
                Cluster::Zero if self.backing.is_some() => ZERO,
                _ => 0,
            });
            write_words(to, entries, cluster)?;
            for one in &clusters {
                if let Cluster::Data(at) = one {
                    read_up_to(&self.disk.file, &mut buffer, *at)
                        .with_context(|| format!("reading `{}`", self.disk.path.display()))?;
                    alter(&mut buffer);
                    to.write_all(&buffer)?;
                }
            }
        }
        Ok(())
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
            HEADER + extensions.len() as u64
        };
        let blocks_at = 1 + layout.refcount_table;
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_be_bytes());
        bytes.extend(3u32.to_be_bytes());
        bytes.extend(name_at.to_be_bytes());
        bytes.extend((name.len() as u32).to_be_bytes());
        bytes.extend(self.disk.cluster_bits.to_be_bytes());
        bytes.extend(self.disk.size.0.to_be_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend((self.tables.len() as u32).to_be_bytes());
        bytes.extend(((blocks_at + layout.refcount_blocks) * cluster).to_be_bytes());
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
}

/// A file's last cluster may be shorter; what is missing is zero.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
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

fn write_words(
    to: &mut dyn Write,
    words: impl Iterator<Item = u64>,
    length: u64,
) -> io::Result<()> {
    let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
    bytes.resize(length as usize, 0);
    to.write_all(&bytes)
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    words.map(|word| number(word, 0, 8)).collect()
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length]
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
