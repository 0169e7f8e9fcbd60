//! The logs of services, kept on the host, so that they outlive the guest and its disk.
//!
//! ```text
//! logs/DOMAIN.log       lines of SECONDS.MICROS MESSAGE, in the order in which they were logged, and between them
//!                       marks: # CURSOR, where the guest's journal has the line before
//! logs/DOMAIN.log.old   older lines; both files together have at most twice [`MOST`] bytes
//! ```

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{
    BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};

/// A larger file is renamed to the old file.
const MOST: u64 = 64 << 20;
/// Lines of this many bytes are followed by a mark at the latest.
const UNMARKED: usize = 32 << 10;
/// The last mark is searched in this many bytes at the end.
const END: u64 = 256 << 10;
const MARK: &str = "# ";

/// One line of a service's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    cursor: Option<String>,
    /// The lines behind the last mark, as an interrupted gathering leaves them.
    known: VecDeque<LogLine>,
    /// The bytes of lines that were added since the last mark, once an entry was.
    unmarked: Option<usize>,
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
            let (cursor, known) = end(&mut file)?;
            if file.metadata()?.len() > MOST {
                fs::rename(&self.0, self.old())?;
                file = self.open()?;
                if let Some(cursor) = &cursor {
                    writeln!(file, "{MARK}{cursor}")?;
                }
            }
            Ok(Entries {
                file: BufWriter::new(file),
                cursor,
                known,
                unmarked: None,
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
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
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

/// Returns the last mark and the lines behind it, and removes an incomplete line that a crash left behind them.
fn end(file: &mut File) -> std::io::Result<(Option<String>, VecDeque<LogLine>)> {
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
    let (mut cursor, mut known) = (None, VecDeque::new());
    for line in String::from_utf8_lossy(&bytes[..complete]).lines() {
        if let Some(mark) = line.strip_prefix(MARK) {
            (cursor, known) = (Some(mark.to_owned()), VecDeque::new());
        } else if cursor.is_some() {
            known.extend(LogLine::parse(line));
        }
    }
    Ok((cursor, known))
}

impl Entries {
    /// Returns the last mark.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Appends the lines of an entry of the journal. Those that an interrupted gathering left come again first.
    pub fn add(&mut self, lines: &[LogLine], cursor: String) -> anyhow::Result<()> {
        let unmarked = self.unmarked.get_or_insert_default();
        for line in lines {
            if self.known.front() == Some(line) {
                self.known.pop_front();
                continue;
            }
            self.known.clear();
            writeln!(self.file, "{:.6} {}", line.seconds, line.message)?;
            *unmarked += line.message.len();
        }
        self.cursor = Some(cursor);
        if *unmarked >= UNMARKED {
            self.mark()?;
        }
        Ok(())
    }

    fn mark(&mut self) -> anyhow::Result<()> {
        if let (Some(_), Some(cursor)) = (self.unmarked.take(), &self.cursor) {
            writeln!(self.file, "{MARK}{cursor}")?;
        }
        Ok(())
    }

    /// Ends a gathering; returns the cursor of the last entry.
    pub fn end(mut self) -> anyhow::Result<Option<String>> {
        self.mark()?;
        self.file.flush()?;
        Ok(self.cursor)
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

    /// Adds one entry for each line; `end` says whether the gathering ends, or is interrupted once its lines are written.
    fn add(book: &Logbook, lines: &[&LogLine], end: bool) {
        let mut entries = book.write().unwrap();
        for line in lines {
            let cursor = format!("cursor of {}", line.message);
            entries.add(std::slice::from_ref(*line), cursor).unwrap();
        }
        if end {
            entries.end().unwrap();
        } else {
            entries.file.flush().unwrap();
        }
    }

    fn cursor(book: &Logbook) -> Option<String> {
        book.write().unwrap().cursor().map(str::to_owned)
    }

    #[test]
    fn gathering_continues_behind_the_last_mark() {
        let folder = tempfile::tempdir().unwrap();
        let book = Logbook::new(folder.path().join("logs/web.log"));
        let [a, b, c] = [
            // The guest's clock goes backwards.
            line(1_763_881_234.000_001, "a b"),
            line(1_000_000_000.000_002, "{}"),
            line(1_000_000_000.000_002, "{}"),
        ];
        assert_eq!(cursor(&book), None);
        add(&book, &[&a], true);
        assert_eq!(cursor(&book).as_deref(), Some("cursor of a b"));
        add(&book, &[&b], false);
        // An incomplete line, as left by a crash.
        let mut file = OpenOptions::new().append(true).open(&book.0).unwrap();
        file.write_all(b"1763881235.0 torn").unwrap();
        assert_eq!(cursor(&book).as_deref(), Some("cursor of a b"));
        add(&book, &[&b, &c], true);
        assert_eq!(all(&book), [a, b, c]);
    }

    #[test]
    fn many_lines_are_marked_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let book = Logbook::new(folder.path().join("web.log"));
        let long = line(1.0, &"x".repeat(UNMARKED));
        add(&book, &[&long, &line(2.0, "last")], false);
        assert_eq!(cursor(&book), Some(format!("cursor of {}", long.message)));
    }

    #[test]
    fn a_large_file_is_renamed_to_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let book = Logbook::new(folder.path().join("web.log"));
        add(&book, &[&line(1.0, &"x".repeat(40 << 10))], true);
        File::options()
            .append(true)
            .open(&book.0)
            .unwrap()
            .set_len(MOST)
            .unwrap();
        let mut file = File::options().append(true).open(&book.0).unwrap();
        file.write_all(b"\n# mark\n2.0 last\n").unwrap();
        add(&book, &[&line(2.0, "last"), &line(3.0, "new")], true);
        assert!(fs::metadata(&book.0).unwrap().len() < 100);
        let kept: Vec<f64> = all(&book).iter().map(|line| line.seconds).collect();
        assert_eq!(kept, [1.0, 2.0, 3.0]);
    }
}
