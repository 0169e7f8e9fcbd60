//! The journal of a run, written to stable storage before and after each step.
//!
//! A run that ends cleanly closes its journal. A killed run leaves it open: the next run reports the steps that were in
//! progress, and continues from the observed state. No decision depends on the journal.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::files;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub enum Entry {
    /// The start of a run with this many steps.
    Run {
        command: String,
        steps: usize,
        time: String,
    },
    Begin {
        step: String,
    },
    End {
        step: String,
    },
    Fail {
        step: String,
        error: String,
    },
    Undo {
        step: String,
    },
    /// The end of the run; a journal without it was interrupted.
    Close,
}

#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
}

impl Journal {
    /// Starts a journal, replacing that of the last run.
    pub fn start(path: &Path, command: &str, steps: usize) -> anyhow::Result<Journal> {
        files::remove_if_there(path)?;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("failed to create the journal `{}`", path.display()))?;
        let journal = Journal {
            file: Mutex::new(file),
        };
        journal.write(&Entry::Run {
            command: command.to_owned(),
            steps,
            time: jiff::Timestamp::now().to_string(),
        })?;
        Ok(journal)
    }

    /// Appends an entry; it is on stable storage when this returns.
    pub fn write(&self, entry: &Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_all(&line)
            .and_then(|()| file.sync_data())
            .context("failed to write the journal")
    }

    /// Returns the steps that an interrupted run started but did not end; empty if the last run closed its journal.
    pub fn under_way(path: &Path) -> anyhow::Result<Vec<String>> {
        let Some(text) = files::read_if_there(path)? else {
            return Ok(Vec::new());
        };
        let mut open = Vec::new();
        // A crash can truncate the last line; its step was not yet started or is still open.
        for entry in text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
        {
            match entry {
                Entry::Begin { step } => open.push(step),
                Entry::End { step } | Entry::Fail { step, .. } => {
                    open.retain(|other| *other != step)
                }
                Entry::Close => open.clear(),
                Entry::Run { .. } | Entry::Undo { .. } => {}
            }
        }
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_journal_shows_the_step_in_progress() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let journal = Journal::start(&path, "up", 3).unwrap();
        for step in ["a", "b"] {
            journal.write(&Entry::Begin { step: step.into() }).unwrap();
        }
        journal.write(&Entry::End { step: "a".into() }).unwrap();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"entry\":\"en")
            .unwrap();
        assert_eq!(Journal::under_way(&path).unwrap(), ["b"]);
        journal.write(&Entry::Close).unwrap();
    }

    #[test]
    fn a_closed_or_missing_journal_has_no_steps_in_progress() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        assert_eq!(Journal::under_way(&path).unwrap(), [""; 0]);
        let journal = Journal::start(&path, "up", 1).unwrap();
        journal.write(&Entry::Begin { step: "a".into() }).unwrap();
        journal.write(&Entry::Close).unwrap();
        assert_eq!(Journal::under_way(&path).unwrap(), [""; 0]);
    }
}
