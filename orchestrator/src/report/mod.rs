//! Draws what the library tells: bars on a terminal, plain lines elsewhere, JSON where asked.
//!
//! The one place that decides what goes to stdout and what to stderr. Meaning never depends on colour.

mod bars;
mod boots;
mod lines;
mod plan;
mod summary;
pub mod trace;

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::event::{Event, seconds};

pub use boots::boots;
pub use plan::plan;
pub use summary::summary;

/// How progress is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bars on stderr, a terminal.
    Bars,
    /// A line per event on stderr.
    Lines,
    /// A JSON event per line on stdout; `at` is in seconds since the run began.
    Json,
}

impl Style {
    /// JSON where it is asked for, else what suits stderr.
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

/// Draws events until their senders are gone.
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
                    writeln!(std::io::stderr(), "{line}")?;
                }
            }
        }
        Style::Json => {
            let began = Instant::now();
            while let Some(event) = events.recv().await {
                let mut line = serde_json::to_value(&event)?;
                line["at"] = seconds(began.elapsed()).into();
                writeln!(std::io::stdout(), "{line}")?;
            }
        }
    }
    Ok(())
}
