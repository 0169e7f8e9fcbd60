//! Errors in a topology, shown with line, column and the text of the line.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::printable::{printable, printable_in_columns};

/// The maximum number of faults that are shown; the others are counted.
pub const MOST_SHOWN: usize = 50;
/// The maximum number of faults that are collected and counted.
pub(super) const MOST_FOUND: usize = 1000;
/// The maximum length of a message or a hint, in characters: texts of the file are in it.
const LONGEST: usize = 600;
/// The maximum number of characters shown of a line.
const WIDEST: usize = 160;

/// A position in the text; line and column start at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// An error in the topology, its position, and a hint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub at: Position,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn new(at: Position, message: impl Into<String>) -> Fault {
        Fault {
            at,
            message: shortened(message.into()),
            help: None,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(shortened(help.into()));
        self
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// All faults of a file, in the order of their positions.
#[derive(Debug)]
pub struct Faults {
    file: PathBuf,
    count: usize,
    /// The text of the first [`MOST_SHOWN`] faults.
    rendered: Vec<String>,
}

impl Faults {
    /// Returns a fault of the whole file.
    pub fn of_file(file: &Path, message: String) -> Faults {
        Faults {
            file: file.to_owned(),
            count: 1,
            rendered: vec![format!(
                "{}: {message}\n",
                printable(&file.to_string_lossy())
            )],
        }
    }

    /// Returns the faults of a topology.
    pub fn in_text(file: &Path, text: &str, faults: Vec<Fault>) -> Faults {
        Faults::in_text_with(&["domains", "images"], file, text, faults)
    }

    /// Returns the faults of a text. Without one of these keys, it is another file than the one that was meant.
    pub(crate) fn in_text_with(
        keys: &[&str],
        file: &Path,
        text: &str,
        mut faults: Vec<Fault>,
    ) -> Faults {
        faults.sort();
        let count = faults.len();
        let lines: Vec<&str> = text.lines().collect();
        let name = printable(&file.file_name().unwrap_or_default().to_string_lossy());
        // A wrong path may be that of a secret: its content is not shown.
        if !keys.iter().any(|key| defines(text, key)) {
            let message = match faults.first() {
                Some(fault) => printable(&fault.message),
                None => String::new(),
            };
            return Faults::of_file(file, message);
        }
        Faults {
            file: file.to_owned(),
            count,
            rendered: faults
                .iter()
                .take(MOST_SHOWN)
                .map(|fault| render(&name, &lines, fault))
                .collect(),
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = if self.count() == 1 {
            "1 error".to_owned()
        } else {
            let more = if self.count() < MOST_FOUND {
                ""
            } else {
                "at least "
            };
            format!("{more}{} errors", self.count())
        };
        let file = printable(&self.file.to_string_lossy());
        writeln!(f, "{errors} in `{file}`\n")?;
        write!(f, "{}", self.rendered.join("\n"))?;
        match self.count - self.rendered.len() {
            0 => Ok(()),
            more => writeln!(f, "\nand {more} more"),
        }
    }
}

/// Whether a text looks like one that defines a key of a topology.
fn defines(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let rest = text[at + key.len()..].trim_start_matches(['"', '\'', ' ']);
        rest.starts_with(':')
    })
}

/// Formats `file:line:column: message`, the line, and below it a caret with the hint.
fn render(file: &str, lines: &[&str], fault: &Fault) -> String {
    let Position { line, column } = fault.at;
    let message = printable_in_columns(&fault.message);
    let mut shown = format!("{file}:{line}:{column}: {message}\n");
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let source = lines.get(line.saturating_sub(1)).unwrap_or(&"");
    let source: String = source.chars().take(WIDEST).collect();
    let source = printable_in_columns(&source);
    shown.push_str(&format!("{number} | {}\n", source.trim_end()));
    let caret = " ".repeat(column.saturating_sub(1).min(WIDEST));
    match &fault.help {
        Some(help) => {
            let help = printable(help);
            shown.push_str(&format!("{gutter} | {caret}^ {help}\n"));
        }
        None => shown.push_str(&format!("{gutter} | {caret}^\n")),
    }
    shown
}
