//! Calls on single documents as they were recorded, and whether one document that does one thing at a time explains them.
//!
//! Owns the calls, which writes must be found afterwards, and the check for linearizability. Sends nothing.

mod linearize;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use linearize::{Verdict, linearize};

/// One call on one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was sent, from an origin that all calls share.
    pub invoked: Duration,
    /// When it was answered. `None`: there was no answer, so a write may have taken effect, or may do so later.
    pub returned: Option<Duration>,
    pub action: Action,
}

/// What a call did, by its answer. Where values are compared, each write has a value of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The document has this value from now on, whether it existed or not.
    Write(u64),
    /// The document, which exists, has this value from now on.
    Update(u64),
    /// The document, which had the first value, has the second one from now on.
    Replace(u64, u64),
    /// It was not replaced, because it did not have this value.
    NotReplaced(u64),
    /// The document, which exists, does not from now on.
    Delete,
    /// The document had this value; `None`: it did not exist. The same is known of an update that found no document.
    Read(Option<u64>),
}

impl Action {
    /// The document after it; `None` if it cannot happen to a document with this value.
    fn apply(self, value: Option<u64>) -> Option<Option<u64>> {
        match self {
            Action::Write(to) => Some(Some(to)),
            Action::Update(to) => value.map(|_| Some(to)),
            Action::Replace(from, to) => (value == Some(from)).then_some(Some(to)),
            Action::NotReplaced(from) => (value != Some(from)).then_some(value),
            Action::Delete => value.map(|_| None),
            Action::Read(read) => (value == read).then_some(value),
        }
    }

    fn is_write(self) -> bool {
        !matches!(self, Action::Read(_) | Action::NotReplaced(_))
    }

    /// The value that it writes.
    fn written(self) -> Option<u64> {
        match self {
            Action::Write(to) | Action::Update(to) | Action::Replace(_, to) => Some(to),
            _ => None,
        }
    }
}

/// Why a document that is read after all calls ended is not what the acknowledged writes made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// This acknowledged write was sent after the one was answered whose value is found.
    Overwritten(Operation),
    /// The document is gone, and nothing deleted it after this acknowledged write.
    Gone(Operation),
    /// No write of this value was sent, or it was refused.
    Unknown(u64),
}

/// Whether the value that is found at the end can be that of the last write. `operations` has no refused writes.
pub fn lost(operations: &[Operation], found: Option<u64>) -> Option<Loss> {
    let acknowledged = |one: &&Operation| one.returned.is_some() && one.action.is_write();
    let by = |one: &&Operation| match found {
        Some(_) => one.action.written() == found,
        None => one.action == Action::Delete,
    };
    let mut writers = operations.iter().filter(by).peekable();
    if let (Some(value), None) = (found, writers.peek()) {
        return Some(Loss::Unknown(value));
    }
    // The last of them; without an answer, it can have taken effect after all others.
    let until = writers
        .map(|one| one.returned.unwrap_or(Duration::MAX))
        .max();
    let later = |one: &&Operation| until.is_none_or(|until| one.invoked > until);
    let lost = operations.iter().filter(acknowledged).find(later)?.clone();
    Some(match found {
        Some(_) => Loss::Overwritten(lost),
        None => Loss::Gone(lost),
    })
}
