//! A run that was told to end, as an error: what failed for that reason is no failure.

use std::error::Error;
use std::fmt;
use std::io;

/// What a run was doing when it was told to end, such as `the image was built`.
#[derive(Debug, thiserror::Error)]
#[error("cancelled while {0}")]
pub struct Cancelled(String);

impl Cancelled {
    pub fn during(what: impl fmt::Display) -> Cancelled {
        Cancelled(what.to_string())
    }

    /// Whether this is what an error comes from.
    pub fn is_cause_of(error: &anyhow::Error) -> bool {
        error.chain().any(is_it)
    }
}

/// For readers and writers. Not [`io::ErrorKind::Interrupted`], after which they would go on.
impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> io::Error {
        io::Error::other(cancelled)
    }
}

fn is_it(error: &(dyn Error + 'static)) -> bool {
    // What an input or output error was made of is not in its chain.
    let within = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    error.is::<Cancelled>() || within.is_some_and(|within| within.is::<Cancelled>())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn it_is_found_wherever_it_is_in_an_error() {
        let plain: anyhow::Error = Cancelled::during("x was pushed").into();
        let wrapped = plain.context("failed to deploy");
        assert!(Cancelled::is_cause_of(&wrapped));
        let read: Result<(), io::Error> = Err(Cancelled::during("x was read").into());
        let read = read.context("failed to read").expect_err("it is an error");
        assert!(Cancelled::is_cause_of(&read));
        assert_eq!(
            format!("{read:#}"),
            "failed to read: cancelled while x was read"
        );
        assert!(!Cancelled::is_cause_of(&anyhow::anyhow!("cancelled")));
    }
}
