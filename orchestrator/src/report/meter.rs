//! The progress of something that takes a known time: a bar on a terminal, else a plain line now and then.

use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Style, say};

/// The time between two lines without a terminal.
const INTERVAL: Duration = Duration::from_secs(5);

pub struct Meter {
    began: Instant,
    total: Duration,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Meter {
    /// The time between two calls of [`Self::show`].
    pub const TICK: Duration = Duration::from_millis(250);

    pub fn start(style: Style, total: Duration) -> Meter {
        let bar = (style == Style::Bars).then(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(milliseconds(total)), target);
            let style = ProgressStyle::with_template("{elapsed:>5} {bar:24} {msg}");
            let style = style.expect("the template is valid").progress_chars("=> ");
            bar.with_style(style)
        });
        Meter {
            began: Instant::now(),
            total,
            bar,
            said: Instant::now(),
        }
    }

    pub fn show(&mut self, text: impl Display) {
        let elapsed = self.began.elapsed();
        if let Some(bar) = &self.bar {
            bar.set_position(milliseconds(elapsed.min(self.total)));
            bar.set_message(text.to_string());
        } else if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            say(format_args!("[{:>6.1} s] {text}\n", elapsed.as_secs_f64()));
        }
    }

    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
