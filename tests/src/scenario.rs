//! What a scenario is: a story from start to end, the time it may take, and what it needs of the machine.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Duration;

/// What a scenario does; the first error fails it.
pub type Story = fn() -> anyhow::Result<()>;

/// Checks the machine for something that a scenario needs; the error is the reason to skip it.
pub type Need = fn() -> Result<(), String>;

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) deadline: Duration,
    pub(crate) story: Story,
    pub(crate) need: Option<Need>,
    pub(crate) large: bool,
    pub(crate) skip_in_ci: SkipInCi,
}

/// Whether CI accepts that a scenario is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipInCi {
    Accepted,
    Fails,
}

impl Scenario {
    /// A scenario that CI requires, and that needs nothing beyond the build.
    ///
    /// The deadline is for a slow machine: well above what the scenario takes on one that is twice as fast.
    pub const fn new(name: &'static str, deadline: Duration, story: Story) -> Scenario {
        Scenario {
            name,
            deadline,
            story,
            need: None,
            large: false,
            skip_in_ci: SkipInCi::Fails,
        }
    }

    /// Skips the scenario where the machine lacks `need`.
    pub const fn needs(mut self, need: Need) -> Scenario {
        self.need = Some(need);
        self
    }

    /// Runs at most one ordinary scenario beside it: it has several guests, or uses all cores.
    pub const fn large(mut self) -> Scenario {
        self.large = true;
        self
    }

    /// Lets CI skip it.
    pub const fn optional(mut self) -> Scenario {
        self.skip_in_ci = SkipInCi::Accepted;
        self
    }
}

pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// The need of scenarios that mount file systems, change owners or create users.
pub fn root() -> Result<(), String> {
    let own = fs::metadata("/proc/self").map_err(|error| error.to_string())?;
    let root = own.uid() == 0;
    root.then_some(()).ok_or_else(|| "needs root".to_owned())
}

/// The need of scenarios that load the machine for ten minutes and more.
pub fn time() -> Result<(), String> {
    let asked = std::env::var_os("PSPD_TEST_LONG").is_some();
    let reason = || "takes long; set PSPD_TEST_LONG=1, as `make soak` does".to_owned();
    asked.then_some(()).ok_or_else(reason)
}

/// Shows what the current scenario does, on stderr, as stdout belongs to the results. Its name comes first, as others may run
/// beside it.
pub fn say(text: &str) {
    match thread::current().name() {
        None | Some("main") => write_indented(text),
        Some(scenario) => say_of(scenario, text),
    }
}

pub(crate) fn say_of(scenario: &str, text: &str) {
    write_indented(&format!("{scenario}: {text}"));
}

fn write_indented(text: &str) {
    let text = text.trim_end_matches('\n').replace('\n', "\n    ");
    // A closed stderr is the reader's choice.
    let _ = writeln!(std::io::stderr(), "    {text}");
}
