//! Private keys that are not exported: where a disk has one, the archive has blanks of the same length.
//!
//! Services run with their keys on their guests' system disks, so that leaving out pspd's own files is not enough. What
//! is looked for is the text of a key, wherever it is: also in what a deleted file left. A file of less than a file
//! system's block (4 KiB) is in one piece, and so are the keys that pspd makes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use regex::bytes::Regex;
use regex::escape;

/// In PEM, with some of its body: programs have the first line alone in them.
const KEY: &str =
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]{40,}-----END [A-Z ]*PRIVATE KEY-----";
const BLANK: u8 = b'x';

pub struct Blanks {
    secret: Regex,
    /// What the archive has elsewhere, because a service is deployed with it.
    spared: Vec<Vec<u8>>,
}

impl Blanks {
    /// Blanks every private key but those in `files`, and the given values.
    pub fn of(values: &[String], files: &[&Path]) -> Result<Blanks> {
        let mut alternatives = vec![KEY.to_owned()];
        let values = values.iter().filter(|value| !value.is_empty());
        alternatives.extend(values.map(|value| escape(value)));
        let secret = Regex::new(&format!("(?-u){}", alternatives.join("|")))
            .context("failed to prepare the search for private keys")?;
        let mut spared = Vec::new();
        for path in files {
            let content =
                fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
            spared.extend(
                secret
                    .find_iter(&content)
                    .map(|found| found.as_bytes().to_vec()),
            );
        }
        Ok(Blanks { secret, spared })
    }

    /// Blanks what a piece of a disk has, which is whole blocks of the guest's file system.
    pub fn apply(&self, bytes: &mut [u8]) {
        let found = self.secret.find_iter(bytes);
        let found = found.filter(|one| !self.spared.iter().any(|other| other == one.as_bytes()));
        let places: Vec<_> = found.map(|one| one.range()).collect();
        for place in places {
            bytes[place].fill(BLANK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(body: &str) -> String {
        format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n")
    }

    #[test]
    fn keys_and_values_are_blanked_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.pem");
        let spared = pem(&"OWN+".repeat(20));
        fs::write(&own, &spared).unwrap();
        let blanks = Blanks::of(&["to.ken".into(), String::new()], &[&own]).unwrap();
        let key = pem(&"a/b=".repeat(20));
        // Not UTF-8, as a disk is; a program's constant; a value that differs where `.` is.
        let around = |middle: &str, value: &str| {
            let mut bytes = vec![0xff, 0xc3];
            bytes.extend(
                format!("{spared}-----BEGIN PRIVATE KEY-----\0{middle}{value}to1ken").bytes(),
            );
            bytes
        };
        let mut bytes = around(&key, "to.ken");
        blanks.apply(&mut bytes);
        let blank = "x".repeat(key.trim_end().len()) + "\n";
        assert_eq!(bytes, around(&blank, "xxxxxx"));
    }
}
