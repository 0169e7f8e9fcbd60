//! What an archive without secrets must not have: where a disk has a private key or a secret, the archive has blanks of
//! the same length.
//!
//! Services run with their keys and secrets on their guests' system disks, so that leaving out pspd's own files is not
//! enough. What is looked for is text, wherever it is: also in what a deleted file left. Known keys and secrets are found
//! in every form that pspd, systemd and cloud-init write ([`forms`]). Others, such as those of earlier releases, are found
//! by what is around them: PEM, and the line of pspd's file of secrets. A file of less than a file system's block (4 KiB) is
//! in one piece.

mod forms;
mod pem;

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use regex::bytes::Regex;
use regex::escape;

use forms::Forms;
pub(super) use forms::{Known, Text};
use pem::PRIVATE_KEY;

use crate::guest::SECRET_BELOW;

/// The bytes that may fill blanks: the first that no secret consists of.
const BLANKS: &[u8] = b"x-_.0123456789";

pub struct Blanks {
    known: Forms,
    /// A secret's line in its file: also with a name or a value that is no longer known, or one too short to be looked for.
    lines: Regex,
    blank: u8,
    /// What the archive has elsewhere, because a service is deployed with it.
    spared: Vec<Vec<u8>>,
}

impl Blanks {
    /// Blanks what is known, the values of the environment variables `names`, and every private key in PEM but those in
    /// `files`. A file that has a known secret itself is an error, because an archive has the files unchanged.
    pub(super) fn of(known: &[Known], names: &[String], files: &[&Path]) -> Result<Blanks> {
        let mut before: Vec<String> = names.iter().map(|name| escape(name)).collect();
        before.push(format!("{}\n[^=\n]+", escape(SECRET_BELOW)));
        // As pspd writes them: in double quotes, with `$` and backticks escaped.
        let lines = Regex::new(&format!(
            r#"(?m-u)^(?:{})="((?:[^"\\$`\n]|\\.)+)"$"#,
            before.join("|")
        ));
        let blank = |byte: &&u8| !known.iter().any(|one| one.repeats(**byte));
        let mut blanks = Blanks {
            known: Forms::of(known),
            lines: lines.context("failed to prepare the search for secrets")?,
            blank: BLANKS.iter().find(blank).copied().unwrap_or(0),
            spared: Vec::new(),
        };
        for path in files {
            let content =
                fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
            blanks.refuse(&content, &format!("`{}`", path.display()))?;
            let keys = PRIVATE_KEY.find_iter(&content);
            let keys: Vec<_> = keys.map(|found| found.as_bytes().to_vec()).collect();
            blanks.spared.extend(keys);
        }
        Ok(blanks)
    }

    /// Fails if `content`, which an archive has unchanged, contains a known secret.
    pub(super) fn refuse(&self, content: &[u8], what: &str) -> Result<()> {
        match self.known.find(content).into_iter().next() {
            None => Ok(()),
            Some((_, of)) => bail!(
                "{what} contains {of}, and is packed unchanged. Remove the secret there, or pass --with-secrets"
            ),
        }
    }

    /// Whether a piece of a disk has something that is blanked.
    pub(super) fn finds(&self, bytes: &[u8]) -> bool {
        !self.places(bytes).is_empty()
    }

    /// Blanks what a piece of a disk has.
    pub(super) fn apply(&self, bytes: &mut [u8]) {
        for place in self.places(bytes) {
            bytes[place].fill(self.blank);
        }
    }

    fn places(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let known = self.known.find(bytes).into_iter().map(|(place, _)| place);
        let mut places: Vec<Range<usize>> = known.collect();
        let keys = PRIVATE_KEY.find_iter(bytes);
        let keys = keys.filter(|key| !self.spared.iter().any(|other| other == key.as_bytes()));
        places.extend(keys.map(|key| key.range()));
        let values = self.lines.captures_iter(bytes);
        let values = values.filter_map(|line| Some(line.get(1)?.range()));
        // Blanks of an earlier export are not a secret.
        let values =
            values.filter(|place| bytes[place.clone()].iter().any(|byte| *byte != self.blank));
        places.extend(values);
        places
    }
}

#[cfg(test)]
mod tests;
