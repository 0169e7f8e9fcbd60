//! Draws the library's events: bars on a terminal, plain lines elsewhere, JSON on request.
//!
//! The only place that decides what is written to stdout and what to stderr. Meaning never depends on color.

mod bars;
mod boots;
mod columns;
mod lines;
mod log;
mod meter;
mod plan;
mod summary;
pub mod trace;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::event::{Event, seconds};

pub use boots::boots;
pub use columns::columns;
pub use log::LogFormat;
pub use meter::Meter;
pub use plan::plan;
pub use summary::{Summary, summary};

/// The form in which progress is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bars on stderr, which is a terminal.
    Bars,
    /// One line per event on stderr.
    Lines,
    /// One JSON event per line on stdout; `at` is in seconds since the start of the run.
    Json,
}

impl Style {
    /// Returns JSON if requested, else the style for stderr.
    pub fn chosen(json: bool) -> Style {
        if json {
            Style::Json
        } else {
            Style::for_stderr()
        }
    }

    pub fn for_stderr() -> Style {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb {
            Style::Bars
        } else {
            Style::Lines
        }
    }
}

/// Writes to stderr for people. A reader that went away, or a full disk, changes neither the work nor the exit code.
pub fn say(text: impl Display) {
    let _ = write!(crate::terminal::err(), "{text}");
}

/// Draws events until all senders are dropped.
pub async fn follow(mut events: UnboundedReceiver<Event>, style: Style) -> anyhow::Result<()> {
    match style {
        Style::Bars => {
            let mut bars = bars::Bars::new();
            while let Some(event) = events.recv().await {
                bars.draw(&event);
            }
            bars.clear();
        }
        Style::Lines => {
            let mut lines = lines::Lines::new();
            while let Some(event) = events.recv().await {
                if let Some(line) = lines.line(&event) {
                    say(format_args!("{line}\n"));
                }
            }
        }
        Style::Json => {
            let began = Instant::now();
            while let Some(event) = events.recv().await {
                let mut line = serde_json::to_value(&event)?;
                line["at"] = seconds(began.elapsed()).into();
                // The same holds for the reader of the events.
                let _ = writeln!(crate::terminal::out(), "{line}");
            }
        }
    }
    Ok(())
}

/// A count with its noun in the singular or plural, such as `1 step` or `2 steps`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// That a fault is active.
fn active(fault: &str) -> String {
    format!("fault `{fault}` is active")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn a_count_agrees_with_its_noun() {
        let counts = [0, 1, 2].map(|count| counted(count, "step"));
        assert_eq!(counts, ["0 steps", "1 step", "2 steps"]);
    }
}
