//! Compression by the file's ending. All of it is bounded in memory, and uses every core.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, bail};
use flate2::bufread::MultiGzDecoder;
use pspd_model::hint::Hinted;

use super::MEMORY;
use super::gzip::Members;
use super::xz::{Blocks, Streams};

const ZSTD_LEVEL: i32 = 3;
/// Archives below this size, in bytes, are read with little memory.
const SMALL: u64 = 8 << 20;
/// Threads of gzip: each holds a block and its compressed form.
const MOST_GZIP: u32 = 16;
const BUFFER: usize = 1 << 20;
/// Enough for what `xz -9` and `zstd -19` make, in bytes.
const SMALL_MEMORY: u64 = 96 << 20;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Tar,
    Gz,
    Xz,
    Zst,
}

impl Format {
    /// The format that the ending of a file's name stands for.
    pub fn of(path: &Path) -> Result<Format> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let endings = [
            (".tar", Format::Tar),
            (".tar.gz", Format::Gz),
            (".tar.xz", Format::Xz),
            (".tar.zst", Format::Zst),
        ];
        let found = endings.iter().find(|(ending, _)| name.ends_with(ending));
        match found {
            Some((_, format)) => Ok(*format),
            None => bail!(Hinted::new(
                format!("the name `{}` has no known ending", path.display()),
                "Use .tar.xz (small), .tar.zst (fast), .tar.gz or .tar",
            )),
        }
    }

    /// The format that a file's first bytes stand for; its name may have changed.
    fn within(magic: &[u8]) -> Format {
        match magic {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zst,
            [0x1f, 0x8b, ..] => Format::Gz,
            _ => Format::Tar,
        }
    }
}

/// How far zstd looks back for what repeats; the reader keeps as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// 64 MiB.
    Short,
    /// 128 MiB, the most that `zstd` and `tar` accept without an option.
    Long,
}

impl Window {
    /// What the reader allows an archive of `packed` bytes.
    pub(super) fn of(packed: u64) -> Window {
        match packed < SMALL {
            true => Window::Short,
            false => Window::Long,
        }
    }

    fn log(self) -> u32 {
        match self {
            Window::Short => 26,
            Window::Long => 27,
        }
    }
}

/// A compressing writer; [`Encoder::finish`] ends it.
pub(super) enum Encoder {
    Tar(BufWriter<File>),
    Gz(Members),
    Xz(Blocks),
    Zst(zstd::stream::write::Encoder<'static, File>),
}

impl Encoder {
    pub(super) fn new(format: Format, window: Window, file: File) -> Result<Encoder> {
        Ok(match format {
            Format::Tar => Encoder::Tar(BufWriter::with_capacity(BUFFER, file)),
            Format::Gz => Encoder::Gz(Members::new(file, cores().min(MOST_GZIP) as usize)),
            Format::Xz => Encoder::Xz(Blocks::new(file, cores())?),
            Format::Zst => {
                let mut encoder = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                encoder.long_distance_matching(true)?;
                encoder.window_log(window.log())?;
                encoder.multithread(cores().min(4))?;
                Encoder::Zst(encoder)
            }
        })
    }

    /// Begins a block, where the format has blocks that are compressed independently of each other.
    pub(super) fn begin_block(&mut self) -> io::Result<()> {
        match self {
            Encoder::Xz(blocks) => blocks.begin(),
            // The window of zstd reaches across blocks, and the one of gzip is too short to matter.
            Encoder::Zst(_) | Encoder::Gz(_) | Encoder::Tar(_) => Ok(()),
        }
    }

    /// Writes what is left, and gives the file back.
    pub(super) fn finish(self) -> io::Result<File> {
        match self {
            Encoder::Tar(writer) => Ok(writer.into_inner()?),
            Encoder::Gz(encoder) => encoder.finish(),
            Encoder::Xz(encoder) => encoder.finish(),
            Encoder::Zst(encoder) => encoder.finish(),
        }
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Tar(writer) => writer,
            Encoder::Gz(encoder) => encoder,
            Encoder::Xz(encoder) => encoder,
            Encoder::Zst(encoder) => encoder,
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

fn cores() -> u32 {
    available_parallelism().map_or(1, |count| count.get() as u32)
}

/// What a decoder may take, in bytes. A small archive has no use for a large window, and could be made to fill it.
pub(super) struct Limits {
    memory: u64,
    window: Window,
}

impl Limits {
    /// Of an archive of `packed` bytes.
    pub(super) fn of(packed: u64) -> Limits {
        Limits {
            memory: packed.saturating_mul(16).clamp(SMALL_MEMORY, MEMORY),
            window: Window::of(packed),
        }
    }
}

/// A decompressing reader; the first bytes of `from` decide the format. An archive that needs more than its limits is an
/// error.
pub(super) fn decoder<'a>(
    from: impl Read + Send + 'a,
    limits: &Limits,
) -> Result<Box<dyn Read + Send + 'a>> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let magic = io::BufRead::fill_buf(&mut from).context("failed to read the archive")?;
    Ok(match Format::within(magic) {
        Format::Tar => Box::new(from),
        Format::Gz => Box::new(MultiGzDecoder::new(from)),
        Format::Xz => Box::new(Explained(Streams::new(from, cores(), limits.memory)?)),
        Format::Zst => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?;
            decoder.window_log_max(limits.window.log())?;
            Box::new(Explained(decoder))
        }
    })
}

/// What zstd says of a frame whose window is longer than its limit.
const LONG_WINDOW: &str = "Frame requires too much memory for decoding";

/// A decoder whose error says what to do where an archive needs more than its limits. Both libraries refuse it before they
/// allocate.
struct Explained<R>(R);

impl<R: Read> Read for Explained<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let cause = error.get_ref();
            let of_xz = cause.and_then(|cause| cause.downcast_ref::<liblzma::stream::Error>());
            let beyond = of_xz == Some(&liblzma::stream::Error::MemLimit)
                || cause.is_some_and(|cause| cause.to_string() == LONG_WINDOW);
            match beyond {
                true => io::Error::other(
                    "unpacking it takes more memory than pspd allows. Compress it again with `xz -9` or `zstd -19`, or less",
                ),
                false => error,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;
    use crate::hint::told;

    #[test]
    fn every_format_reads_what_it_wrote() {
        let text: Vec<u8> = (0..3_000_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        for name in ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"] {
            let mut file = tempfile::tempfile().unwrap();
            let format = Format::of(Path::new(name)).unwrap();
            let mut encoder =
                Encoder::new(format, Window::Short, file.try_clone().unwrap()).unwrap();
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap();
            file.rewind().unwrap();
            let mut read = Vec::new();
            decoder(file, &Limits::of(0))
                .unwrap()
                .read_to_end(&mut read)
                .unwrap();
            assert!(read == text, "{name}");
        }
    }

    #[test]
    fn an_unknown_ending_is_refused() {
        let error = told(&Format::of(Path::new("export.zip")).unwrap_err());
        assert!(error.contains(". Use .tar.xz"), "{error}");
    }
}
