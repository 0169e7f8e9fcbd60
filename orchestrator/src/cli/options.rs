//! The options of commands that change a deployment by one plan, and commands as the words of a file.

use anyhow::{anyhow, ensure};

#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Options {
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON event per line on stdout; with `--dry-run`, the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    pub no_wait: bool,
}

impl Options {
    /// Rejects options in the words of a file: there is nobody to read what they print.
    pub(super) fn refuse(self, words: &str) -> anyhow::Result<()> {
        let set = self.dry_run || self.json || self.no_wait;
        ensure!(
            !set,
            "`{words}` has an option that works only on the command line: `--dry-run`, `--json` or `--no-wait`"
        );
        Ok(())
    }
}

/// Parses words as clap does those of the command line. The error is one line.
pub(super) fn words<T: clap::Parser>(words: &str) -> anyhow::Result<T> {
    T::try_parse_from(words.split_whitespace()).map_err(|error| {
        let text = error.to_string();
        let lines = text.lines().map(str::trim);
        let shown = |line: &&str| line.starts_with("error: ") || line.starts_with("tip: ");
        let shown: Vec<&str> = lines.filter(shown).collect();
        let shown = shown.join("; ").replace("error: ", "");
        match shown.is_empty() {
            true => anyhow!("`{words}` is not complete"),
            false => anyhow!("`{words}`: {shown}"),
        }
    })
}
