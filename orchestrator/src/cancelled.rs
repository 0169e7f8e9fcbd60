//! The error of work that was cancelled. Callers report it as an interruption, not as a failure.

use std::error::Error;
use std::fmt;
use std::io;

/// The work that was cancelled, such as `building the image`.
#[derive(Debug, thiserror::Error)]
#[error("cancelled while {0}")]
pub struct Cancelled(String);

impl Cancelled {
    pub fn during(what: impl fmt::Display) -> Cancelled {
        Cancelled(what.to_string())
    }

    /// Returns whether an error was caused by cancellation.
    pub fn is_cause_of(error: &anyhow::Error) -> bool {
        error.chain().any(is_cancelled)
    }
}

/// For readers and writers. The kind is not [`io::ErrorKind::Interrupted`], after which they would retry.
impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> io::Error {
        io::Error::other(cancelled)
    }
}

fn is_cancelled(error: &(dyn Error + 'static)) -> bool {
    // The chain of an I/O error does not contain the error that it wraps.
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    error.is::<Cancelled>() || wrapped.is_some_and(|wrapped| wrapped.is::<Cancelled>())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn it_is_found_anywhere_in_an_error_chain() {
        let plain: anyhow::Error = Cancelled::during("pushing x").into();
        let wrapped = plain.context("failed to deploy");
        assert!(Cancelled::is_cause_of(&wrapped));
        let read: Result<(), io::Error> = Err(Cancelled::during("reading x").into());
        let read = read.context("failed to read").expect_err("it is an error");
        assert!(Cancelled::is_cause_of(&read));
        assert_eq!(
            format!("{read:#}"),
            "failed to read: cancelled while reading x"
        );
        assert!(!Cancelled::is_cause_of(&anyhow::anyhow!("cancelled")));
    }
}
