//! xz in independent blocks on all cores; the caller can begin a block. Reading accepts several streams and the padding
//! that the format allows between and behind them, and nothing else (<https://tukaani.org/xz/xz-file-format.txt>, 2).

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use anyhow::{Context as _, Result, bail};
use liblzma::stream::{
    Action, Check, Filters, LzmaOptions, MatchFinder, Mode, MtStreamBuilder, Status, Stream,
};

use super::MEMORY;

/// The longest block, in bytes. Each is compressed on its own: large ones compress better, of small ones more run at a time.
const BLOCK: u64 = 32 << 20;
/// The longest that fits is taken. An executable is in an archive twice, as a file and on its guest's disk, and only a
/// long dictionary sees that: 11 % less than the shortest, which fits a core's cache.
const DICTIONARIES: [u32; 4] = [16 << 20, 8 << 20, 1 << 20, 256 << 10];
const LEVEL: u32 = 0;
/// How many places are searched for a match: with a long dictionary each is a cache miss.
const DEPTH: u32 = 1;
const BUFFER: usize = 1 << 16;

/// A compressing writer; [`Blocks::finish`] ends it.
pub(super) struct Blocks {
    stream: Stream,
    to: File,
    /// Compressed, and not yet written.
    out: Vec<u8>,
}

impl Blocks {
    /// Takes the longest dictionary that fits into the memory on that many cores, or fewer threads if none fits.
    pub(super) fn new(to: File, cores: u32) -> Result<Blocks> {
        let (dictionary, threads) = setting(cores)?;
        Blocks::made_by(&builder(dictionary, threads)?, to)
    }

    fn made_by(builder: &MtStreamBuilder, to: File) -> Result<Blocks> {
        Ok(Blocks {
            stream: builder.encoder().context("failed to start xz")?,
            to,
            out: Vec::with_capacity(BUFFER),
        })
    }

    /// Begins a block, however long the one before is.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.until_done(Action::FullBarrier)
    }

    /// Writes what is left, and gives the file back.
    pub(super) fn finish(mut self) -> io::Result<File> {
        self.until_done(Action::Finish)?;
        Ok(self.to)
    }

    fn until_done(&mut self, action: Action) -> io::Result<()> {
        while self.process(&[], action)? != Status::StreamEnd {}
        Ok(())
    }

    fn process(&mut self, bytes: &[u8], action: Action) -> io::Result<Status> {
        let status = self.stream.process_vec(bytes, &mut self.out, action)?;
        self.to.write_all(&self.out)?;
        self.out.clear();
        Ok(status)
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.stream.total_in();
        // It may accept nothing while all threads are busy; then it returns what they made.
        while self.stream.total_in() == before && !bytes.is_empty() {
            self.process(bytes, Action::Run)?;
        }
        Ok((self.stream.total_in() - before) as usize)
    }

    /// Does nothing: a block is written when it is complete.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Streams are padded to a multiple of this, in bytes.
const PADDING: u64 = 4;

/// A decompressing reader of a whole file.
pub(super) struct Streams<R> {
    from: R,
    /// `None` between two streams.
    stream: Option<Stream>,
    /// Zeros since the last stream.
    padding: u64,
    threads: u32,
    memory: u64,
}

impl<R: BufRead> Streams<R> {
    /// Threads are started as `memory` allows; a stream that needs more is an error.
    pub(super) fn new(from: R, threads: u32, memory: u64) -> Result<Streams<R>> {
        Ok(Streams {
            from,
            stream: Some(decoder(threads, memory)?),
            padding: 0,
            threads,
            memory,
        })
    }

    /// Begins the next stream. Returns whether there is one.
    fn next_stream(&mut self) -> io::Result<bool> {
        loop {
            let bytes = self.from.fill_buf()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let (at_end, found) = (bytes.is_empty(), zeros < bytes.len());
            self.from.consume(zeros);
            self.padding += zeros as u64;
            if !at_end && !found {
                continue;
            }
            if !self.padding.is_multiple_of(PADDING) {
                return Err(io::Error::other("the padding of an xz stream is damaged"));
            }
            if found {
                let stream = decoder(self.threads, self.memory).map_err(io::Error::other)?;
                self.stream = Some(stream);
                self.padding = 0;
            }
            return Ok(found);
        }
    }
}

fn decoder(threads: u32, memory: u64) -> Result<Stream> {
    let mut builder = MtStreamBuilder::new();
    builder
        .threads(threads)
        .memlimit_threading(memory)
        .memlimit_stop(memory);
    builder.decoder().context("failed to start xz")
}

impl<R: BufRead> Read for Streams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(stream) = &mut self.stream else {
                if self.next_stream()? {
                    continue;
                }
                return Ok(0);
            };
            let input = self.from.fill_buf()?;
            let at_end = input.is_empty();
            let action = if at_end { Action::Finish } else { Action::Run };
            let before = (stream.total_in(), stream.total_out());
            let status = stream.process(input, buffer, action)?;
            let consumed = (stream.total_in() - before.0) as usize;
            let read = (stream.total_out() - before.1) as usize;
            self.from.consume(consumed);
            if status == Status::StreamEnd {
                self.stream = None;
            } else if read == 0 && at_end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            } else if read == 0 && consumed == 0 {
                return Err(io::Error::other("the xz stream is damaged"));
            }
            if read > 0 {
                return Ok(read);
            }
        }
    }
}

/// The dictionary in bytes, and how many threads.
fn setting(cores: u32) -> Result<(u32, u32)> {
    let all = DICTIONARIES.map(|dictionary| (dictionary, cores));
    let fewer = (1..cores).rev().map(|threads| (256 << 10, threads));
    for (dictionary, threads) in all.into_iter().chain(fewer) {
        if builder(dictionary, threads)?.memusage() <= MEMORY {
            return Ok((dictionary, threads));
        }
    }
    bail!("xz needs more than {MEMORY} bytes of memory")
}

fn builder(dictionary: u32, threads: u32) -> Result<MtStreamBuilder> {
    let mut options = LzmaOptions::new_preset(LEVEL)?;
    options
        .dict_size(dictionary)
        .mode(Mode::Fast)
        .match_finder(MatchFinder::HashChain3)
        .depth(DEPTH);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut builder = MtStreamBuilder::new();
    builder
        .threads(threads)
        .block_size(BLOCK)
        .filters(filters)
        .check(Check::Crc64);
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    /// docs/archive.md and the recorded sizes depend on it.
    #[test]
    fn two_cores_have_the_longest_dictionary_and_many_stay_within_the_memory() {
        assert_eq!(setting(2).unwrap(), (16 << 20, 2));
        for cores in [1, 4, 16, 256] {
            let (dictionary, threads) = setting(cores).unwrap();
            assert!((1..=cores).contains(&threads), "{cores}");
            assert!(DICTIONARIES.contains(&dictionary), "{cores}");
        }
    }

    #[test]
    fn repeated_content_costs_once_within_a_block() {
        use proptest::prelude::Rng as _;
        use proptest::test_runner::{RngAlgorithm, TestRng};

        let mut noise = vec![0; 384 << 10];
        TestRng::deterministic_rng(RngAlgorithm::ChaCha).fill_bytes(&mut noise);
        let before = vec![7; 640 << 10];
        let mut blocks_of_1_mib = builder(1 << 20, 2).unwrap();
        blocks_of_1_mib.block_size(1 << 20);
        let packed = |begin: bool| {
            let mut blocks =
                Blocks::made_by(&blocks_of_1_mib, tempfile::tempfile().unwrap()).unwrap();
            blocks.write_all(&before).unwrap();
            if begin {
                blocks.begin().unwrap();
            }
            blocks.write_all(&noise).unwrap();
            blocks.write_all(&noise).unwrap();
            let mut file = blocks.finish().unwrap();
            file.rewind().unwrap();
            let length = file.metadata().unwrap().len();
            let mut read = Vec::new();
            let mut decoder = liblzma::read::XzDecoder::new(file);
            decoder.read_to_end(&mut read).unwrap();
            assert!(read == [&before[..], &noise, &noise].concat());
            length
        };
        // Else a block ends between the two.
        assert!(packed(false) > 760 << 10);
        assert!(packed(true) < 400 << 10);
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut blocks = Blocks::new(tempfile::tempfile().unwrap(), 2).unwrap();
        blocks.write_all(text).unwrap();
        let mut file = blocks.finish().unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        // A short buffer: streams and padding end anywhere in it.
        let from = io::BufReader::with_capacity(5, bytes);
        let mut text = Vec::new();
        Streams::new(from, 2, MEMORY)
            .unwrap()
            .read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn streams_and_padding_are_read_and_all_else_is_refused() {
        let (one, two) = (packed(b"one, "), packed(b"two"));
        let all = |parts: &[&[u8]]| unpacked(&parts.concat());
        assert_eq!(all(&[&one, &two]).unwrap(), b"one, two");
        assert_eq!(all(&[&one, &[0; 8], &two, &[0; 4]]).unwrap(), b"one, two");
        assert_eq!(all(&[&one]).unwrap(), b"one, ");
        for bad in [
            &[&one[..], &two[..two.len() - 1]][..],
            &[&one, &[0; 3]],
            &[&one, &[0; 5], &two],
            &[&one, b"garbage"],
            &[&one, &[0; 4], b"x"],
            &[&one, &two[..6]],
            &[&one[..one.len() - 1]],
            &[&[0; 4], &one],
            &[],
        ] {
            assert!(all(bad).is_err(), "{bad:?}");
        }
    }
}
