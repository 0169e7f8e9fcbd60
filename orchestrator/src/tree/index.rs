//! The list of what is in a tree, and its text: one line for each entry.
//!
//! ```text
//! d PATH
//! f MODE DIGEST PATH
//! l TARGET<TAB>PATH
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pspd_model::spec::Digest;

use super::{Entry, Kind};

/// All of a tree, in the order of the paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub entries: Vec<Entry>,
    /// Of the index's text.
    pub digest: Digest,
}

/// What makes one tree of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference<'a> {
    /// What is not there, or differs.
    pub added: Vec<&'a Entry>,
    /// Paths that are to be removed first, folders with all that is in them.
    pub removed: Vec<&'a str>,
}

impl Index {
    /// Takes the entries in the order of their paths.
    pub(super) fn new(entries: Vec<Entry>) -> Index {
        let digest = Digest::of(text(&entries).as_bytes());
        Index { entries, digest }
    }

    pub fn text(&self) -> String {
        text(&self.entries)
    }

    /// Reads an index's text; `None` if it is none.
    pub fn parse(text: &str) -> Option<Index> {
        let entries: Option<Vec<Entry>> = text.lines().map(entry).collect();
        Some(Index::new(entries?))
    }

    /// What makes this tree of `base`.
    pub fn difference<'a>(&'a self, base: Option<&'a Index>) -> Difference<'a> {
        let before: BTreeMap<&str, &Kind> = base
            .into_iter()
            .flat_map(|base| &base.entries)
            .map(|entry| (entry.path.as_str(), &entry.kind))
            .collect();
        let now: BTreeMap<&str, &Kind> = self
            .entries
            .iter()
            .map(|entry| (entry.path.as_str(), &entry.kind))
            .collect();
        let stays = |path: &str, kind: &Kind| {
            let kept = now.get(path);
            kept.is_some_and(|now| std::mem::discriminant(*now) == std::mem::discriminant(kind))
        };
        let mut removed = BTreeSet::new();
        for (path, _) in before.iter().filter(|(path, kind)| !stays(path, kind)) {
            let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if !above.any(|folder| removed.contains(folder)) {
                removed.insert(*path);
            }
        }
        let differs = |entry: &&Entry| before.get(entry.path.as_str()) != Some(&&entry.kind);
        Difference {
            added: self.entries.iter().filter(differs).collect(),
            removed: removed.into_iter().collect(),
        }
    }

    /// Whether there is a file at a path, and its permission bits in the guest.
    pub fn file(&self, path: &str) -> Option<u32> {
        let found = self
            .entries
            .binary_search_by(|entry| entry.path.as_str().cmp(path));
        match self.entries.get(found.ok()?)?.kind {
            Kind::File { mode, .. } => Some(mode),
            _ => None,
        }
    }
}

fn text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { path, kind } in entries {
        let _ = match kind {
            Kind::Folder => writeln!(text, "d {path}"),
            Kind::File { mode, digest } => writeln!(text, "f {mode:o} {digest} {path}"),
            Kind::Link { target } => writeln!(text, "l {target}\t{path}"),
        };
    }
    text
}

fn entry(line: &str) -> Option<Entry> {
    let (letter, rest) = line.split_once(' ')?;
    let (path, kind) = match letter {
        "d" => (rest, Kind::Folder),
        "f" => {
            let (mode, rest) = rest.split_once(' ')?;
            let (digest, path) = rest.split_once(' ')?;
            let mode = u32::from_str_radix(mode, 8).ok()?;
            let digest = Digest::parse(digest).ok()?;
            (path, Kind::File { mode, digest })
        }
        "l" => {
            let (target, path) = rest.split_once('\t')?;
            let target = target.to_owned();
            (path, Kind::Link { target })
        }
        _ => return None,
    };
    Some(Entry {
        path: path.to_owned(),
        kind,
    })
}
