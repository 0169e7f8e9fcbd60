//! The logs of services, kept on the host, so that they outlive the guest and its disk.
//!
//! ```text
//! logs/DOMAIN.log       lines of SECONDS.MICROS MESSAGE, in the order of the guest's clock
//! logs/DOMAIN.log.old   older lines; both files together have at most twice [`MOST`] bytes
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{
    BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

/// A larger file is renamed to the old file.
const MOST: u64 = 64 << 20;
/// The last line is searched in this many bytes at the end; journald's lines have at most 48 KiB.
const END: u64 = 64 << 10;

/// One line of a service's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// Seconds since the epoch, by the guest's clock.
    pub seconds: f64,
    pub message: String,
}

impl LogLine {
    fn parse(line: &str) -> Option<LogLine> {
        let (seconds, message) = line.split_once(' ')?;
        Some(LogLine {
            seconds: seconds.parse().ok()?,
            message: message.to_owned(),
        })
    }
}

/// The log of one service.
#[derive(Clone, Debug)]
pub struct Logbook(PathBuf);

/// A logbook locked for writing.
pub struct Entries {
    file: BufWriter<File>,
    last: Option<f64>,
}

impl Logbook {
    pub(super) fn new(path: PathBuf) -> Logbook {
        Logbook(path)
    }

    fn old(&self) -> PathBuf {
        self.0.with_extension("log.old")
    }

    /// Whether anything was gathered.
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// Opens it for writing; waits until no other process writes it.
    pub fn write(&self) -> anyhow::Result<Entries> {
        let open = || -> std::io::Result<Entries> {
            if let Some(folder) = self.0.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = self.open()?;
            if file.metadata()?.len() > MOST {
                fs::rename(&self.0, self.old())?;
                let last = last(&mut file)?;
                return Ok(Entries {
                    file: BufWriter::new(self.open()?),
                    last,
                });
            }
            let last = last(&mut file)?;
            Ok(Entries {
                file: BufWriter::new(file),
                last,
            })
        };
        open().with_context(|| format!("failed to write `{}`", self.0.display()))
    }

    fn open(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&self.0)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Passes all lines to `line`, oldest first.
    pub fn read(&self, mut line: impl FnMut(LogLine)) -> anyhow::Result<()> {
        for path in [self.old(), self.0.clone()] {
            read_file(&path, &mut line)
                .with_context(|| format!("failed to read `{}`", path.display()))?;
        }
        Ok(())
    }
}

fn read_file(path: &Path, line: &mut impl FnMut(LogLine)) -> std::io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    for text in BufReader::new(file).split(b'\n') {
        if let Some(parsed) = LogLine::parse(&String::from_utf8_lossy(&text?)) {
            line(parsed);
        }
    }
    Ok(())
}

/// Returns the time of the last complete line, and removes an incomplete line that a crash left behind it.
fn last(file: &mut File) -> std::io::Result<Option<f64>> {
    let size = file.metadata()?.len();
    let begin = size.saturating_sub(END);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let complete = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    if complete < bytes.len() {
        file.set_len(begin + complete as u64)?;
    }
    let text = String::from_utf8_lossy(&bytes[..complete]);
    let mut lines = text.lines().rev();
    Ok(lines.find_map(LogLine::parse).map(|line| line.seconds))
}

impl Entries {
    /// Returns the time of the last line.
    pub fn last(&self) -> Option<f64> {
        self.last
    }

    /// Appends a line, unless the last line has the same or a later time.
    pub fn add(&mut self, line: &LogLine) -> anyhow::Result<()> {
        if self.last.is_none_or(|last| line.seconds > last) {
            writeln!(self.file, "{:.6} {}", line.seconds, line.message)?;
        }
        Ok(())
    }

    pub fn end(mut self) -> anyhow::Result<()> {
        Ok(self.file.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seconds: f64, message: &str) -> LogLine {
        LogLine {
            seconds,
            message: message.to_owned(),
        }
    }

    fn all(book: &Logbook) -> Vec<LogLine> {
        let mut lines = Vec::new();
        book.read(|line| lines.push(line)).unwrap();
        lines
    }

    #[test]
    fn gathering_continues_after_the_last_complete_line() {
        let folder = tempfile::tempdir().unwrap();
        let book = Logbook::new(folder.path().join("logs/web.log"));
        let (first, second) = (
            line(1_763_881_234.000_001, "a b"),
            line(1_763_881_234.000_002, "{}"),
        );
        let mut entries = book.write().unwrap();
        assert_eq!(entries.last(), None);
        entries.add(&first).unwrap();
        entries.end().unwrap();
        // An incomplete line, as left by a crash.
        let mut file = OpenOptions::new().append(true).open(&book.0).unwrap();
        file.write_all(b"1763881235.0 torn").unwrap();
        let mut entries = book.write().unwrap();
        assert_eq!(entries.last(), Some(first.seconds));
        for line in [&first, &second] {
            entries.add(line).unwrap();
        }
        entries.end().unwrap();
        assert_eq!(all(&book), [first, second]);
    }

    #[test]
    fn a_large_file_is_renamed_to_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let book = Logbook::new(folder.path().join("web.log"));
        let mut entries = book.write().unwrap();
        entries.add(&line(1.0, &"x".repeat(40 << 10))).unwrap();
        entries.end().unwrap();
        File::options()
            .append(true)
            .open(&book.0)
            .unwrap()
            .set_len(MOST)
            .unwrap();
        let mut file = File::options().append(true).open(&book.0).unwrap();
        file.write_all(b"\n2.0 last\n").unwrap();
        let mut entries = book.write().unwrap();
        assert_eq!(entries.last(), Some(2.0));
        entries.add(&line(3.0, "new")).unwrap();
        entries.end().unwrap();
        assert!(fs::metadata(&book.0).unwrap().len() < 100);
        let kept: Vec<f64> = all(&book).iter().map(|line| line.seconds).collect();
        assert_eq!(kept, [1.0, 2.0, 3.0]);
    }
}
