//! The only way to stdout and stderr: what terminals obey is escaped, wherever a text comes from. Names, logs and errors
//! may be those of guests, archives and other programs.

use std::io::{self, IsTerminal as _, Stderr, Stdout, Write};
use std::os::fd::AsFd;

use pspd_model::printable::escaped;

/// Standard output for text and JSON.
pub(crate) fn out() -> Escaped<Stdout> {
    Escaped(io::stdout())
}

/// Standard error for text.
pub(crate) fn err() -> Escaped<Stderr> {
    Escaped(io::stderr())
}

/// Standard output as it is: for bytes that the user asked for, and for pspd's own control characters.
pub(crate) fn raw() -> Stdout {
    io::stdout()
}

/// Whether standard output is a terminal that shows colors, and the user wants them (<https://no-color.org>).
pub(crate) fn out_has_color() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb
}

/// The number of columns of the terminal that is standard output; `None` if it is not a terminal.
pub(crate) fn out_width() -> Option<usize> {
    width(io::stdout())
}

/// The same for standard error.
pub(crate) fn err_width() -> Option<usize> {
    width(io::stderr())
}

fn width(stream: impl AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(stream).ok()?.ws_col;
    (columns > 0).then_some(columns.into())
}

/// How text of guests is printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    Escaped,
    /// As the guest wrote it, because the user asked for that.
    Raw,
}

impl Output {
    pub(crate) fn writer(self) -> Box<dyn Write> {
        match self {
            Output::Escaped => Box::new(out()),
            Output::Raw => Box::new(raw()),
        }
    }
}

/// Escapes what it writes. A character that is split between two writes is replaced.
pub(crate) struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(escaped(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_terminals_obey_is_escaped() {
        let mut written = Escaped(Vec::new());
        written
            .write_all("error: `\x1b]0;title\x07\u{9b}2J`\n".as_bytes())
            .unwrap();
        written.write_all(b"\xffbytes\n").unwrap();
        assert_eq!(
            String::from_utf8(written.0).unwrap(),
            "error: `\\u001b]0;title\\u0007\\u009b2J`\n\u{fffd}bytes\n"
        );
    }

    /// No other file prints. `console` passes a guest's bytes through: that is its purpose.
    #[test]
    fn all_that_is_printed_is_printed_here() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![source.clone()];
        let mut others = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap_or_default();
                let prints = |line: &str| {
                    ["io::stdout()", "io::stderr()"]
                        .iter()
                        .any(|stream| line.contains(stream))
                        && !line.contains(".is_terminal()")
                };
                if text.lines().any(prints) {
                    others.push(path.strip_prefix(&source).unwrap().to_owned());
                }
            }
        }
        others.sort();
        assert_eq!(
            others,
            [Path::new("cli/console.rs"), Path::new("terminal.rs")]
        );
    }
}
