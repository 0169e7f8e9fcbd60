//! Sorts the ids of a query's documents in constant memory: what does not fit is sorted in runs, which are written to a
//! temporary file and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// What is sorted in memory, in bytes.
const RUN: usize = 2 << 20;
/// What an entry takes beside its texts.
const ENTRY: usize = 72;
const BUFFER: usize = 8 << 10;

/// A document's place in the order, its id and its size in bytes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) id: String,
    pub(super) size: usize,
}

/// Takes entries in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    folder: PathBuf,
    /// The number of entries that are asked for, from the first.
    most: usize,
    entries: Vec<Entry>,
    bytes: usize,
    runs: Option<Runs>,
}

/// Sorted parts of one file.
#[derive(Debug)]
struct Runs {
    file: File,
    ends: Vec<u64>,
}

/// One run, from where it has been read.
#[derive(Debug)]
struct Run {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Sorter {
    pub(super) fn new(folder: PathBuf, most: usize) -> Self {
        Self {
            folder,
            most,
            entries: Vec::new(),
            bytes: 0,
            runs: None,
        }
    }

    /// Adds an entry; it may write a run.
    pub(super) fn add(&mut self, entry: Entry) -> io::Result<()> {
        self.bytes += entry.key.len() + entry.id.len() + ENTRY;
        self.entries.push(entry);
        if self.bytes < RUN {
            return Ok(());
        }
        self.entries.sort_unstable();
        if self.runs.is_none() && self.most < self.entries.len() / 2 {
            self.entries.truncate(self.most);
            let size = |entry: &Entry| entry.key.len() + entry.id.len() + ENTRY;
            self.bytes = self.entries.iter().map(size).sum();
            return Ok(());
        }
        self.write_run()
    }

    fn write_run(&mut self) -> io::Result<()> {
        let runs = match &mut self.runs {
            Some(runs) => runs,
            none => none.insert(Runs {
                file: tempfile::tempfile_in(&self.folder)?,
                ends: Vec::new(),
            }),
        };
        let mut file = BufWriter::new(&mut runs.file);
        for Entry { key, id, size } in self.entries.drain(..) {
            for length in [key.len(), id.len(), size] {
                file.write_all(&(length as u64).to_le_bytes())?;
            }
            file.write_all(&key)?;
            file.write_all(id.as_bytes())?;
        }
        file.flush()?;
        drop(file);
        runs.ends.push(runs.file.stream_position()?);
        self.bytes = 0;
        Ok(())
    }

    /// Calls `take` with the entries in their order, but the first `skip`.
    pub(super) fn finish(
        mut self,
        skip: usize,
        mut take: impl FnMut(Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        self.entries.sort_unstable();
        let wanted = self.most.saturating_sub(skip);
        if self.runs.is_none() {
            let entries = self.entries.into_iter();
            return entries.skip(skip).take(wanted).try_for_each(take);
        }
        self.write_run()?;
        let Some(Runs { file, ends }) = self.runs else {
            return Ok(());
        };
        let file = Arc::new(file);
        let mut start = 0;
        let mut runs = BinaryHeap::new();
        let mut readers = Vec::new();
        for end in ends {
            let run = Run {
                file: file.clone(),
                at: std::mem::replace(&mut start, end),
                end,
            };
            let mut reader = BufReader::with_capacity(BUFFER, run);
            if let Some(entry) = read(&mut reader)? {
                runs.push(Reverse((entry, readers.len())));
            }
            readers.push(reader);
        }
        let mut place = 0;
        while let Some(mut first) = runs.peek_mut() {
            if place == self.most {
                break;
            }
            let number = first.0.1;
            let entry = match read(&mut readers[number])? {
                Some(next) => std::mem::replace(&mut first.0.0, next),
                None => PeekMut::pop(first).0.0,
            };
            if place >= skip {
                take(entry)?;
            }
            place += 1;
        }
        Ok(())
    }
}

fn read(run: &mut BufReader<Run>) -> io::Result<Option<Entry>> {
    if run.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut length = || {
        let mut bytes = [0; 8];
        run.read_exact(&mut bytes)?;
        Ok::<_, io::Error>(u64::from_le_bytes(bytes) as usize)
    };
    let (key, id, size) = (length()?, length()?, length()?);
    let (mut key, mut id) = (vec![0; key], vec![0; id]);
    run.read_exact(&mut key)?;
    run.read_exact(&mut id)?;
    let id = String::from_utf8(id).map_err(io::Error::other)?;
    Ok(Some(Entry { key, id, size }))
}

impl Read for Run {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (self.end - self.at).min(buffer.len() as u64) as usize;
        let length = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(numbers: &[u32], skip: usize, most: usize) -> Vec<u32> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path().to_owned(), most);
        for number in numbers {
            let entry = Entry {
                key: number.to_be_bytes().to_vec(),
                id: format!("{number:040}"),
                size: *number as usize,
            };
            sorter.add(entry).unwrap();
        }
        let mut found = Vec::new();
        let take = |entry: Entry| {
            assert_eq!(entry.id, format!("{:040}", entry.size));
            found.push(entry.size as u32);
            Ok(())
        };
        sorter.finish(skip, take).unwrap();
        found
    }

    #[test]
    fn what_does_not_fit_is_merged_in_order() {
        let mut random = fastrand::Rng::with_seed(1);
        let numbers: Vec<u32> = (0..100_000).map(|_| random.u32(..)).collect();
        let mut expected = numbers.clone();
        expected.sort_unstable();
        assert_eq!(sorted(&numbers, 0, usize::MAX), expected);
        assert_eq!(sorted(&numbers, 10, 20), expected[10..20]);
        assert_eq!(sorted(&numbers, 5, 90_000), expected[5..90_000]);
        assert_eq!(sorted(&numbers[..10], 3, usize::MAX).len(), 7);
        assert_eq!(sorted(&[], 0, usize::MAX), [0; 0]);
    }
}
