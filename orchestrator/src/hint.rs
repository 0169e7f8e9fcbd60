//! What the user can do about an error, wherever in its causes the advice is.

use std::borrow::Cow;
use std::error::Error;

use pspd_model::hint::{self, joined};

use crate::guest::ConnectError;
use crate::libvirt;

/// An error for a report: with its causes as one line, and its hint apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub error: String,
    pub hint: Option<String>,
}

impl Told {
    pub fn of(error: &anyhow::Error) -> Told {
        let (error, hint) = hint::apart(error.as_ref(), of);
        Told { error, hint }
    }
}

/// Returns an error with its causes and its hint, as one line.
pub fn told(error: &anyhow::Error) -> String {
    let Told { error, hint } = Told::of(error);
    joined(&error, hint.as_deref())
}

/// Returns the hint of one error, without those of its causes. Every type of error that has a hint is here or in
/// [`hint::of`].
pub(crate) fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    if let Some(error) = error.downcast_ref::<libvirt::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return error.hint().map(Cow::Borrowed);
    }
    hint::of(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::{Context as _, anyhow};
    use pspd_model::hint::Hint as _;
    use pspd_model::plan::PlanError;
    use pspd_model::spec::Name;

    use super::*;

    fn deep(error: impl Into<anyhow::Error>) -> anyhow::Error {
        let failed = Err::<(), _>(error.into()).context("failed to read");
        failed.context("failed to start").unwrap_err()
    }

    #[test]
    fn a_hint_deep_in_a_chain_follows_all_causes_once() {
        let deployment = Name::new("demo").unwrap();
        let planned = PlanError::NotUp { deployment };
        let merged = libvirt::Error::NotMerged {
            domain: "web".into(),
            disk: "vda".into(),
            waited: Duration::from_secs(1),
        };
        let advised = Err::<(), _>(anyhow!("no answer"))
            .context("failed to call `web`")
            .hint("Try again");
        for (error, expected) in [
            (
                deep(planned),
                "failed to start: failed to read: `demo` is not up. Run `pspd up` to start it",
            ),
            (
                deep(merged),
                "failed to start: failed to read: timed out after 1s merging the snapshot of disk `vda` of domain `web`. \
                 Run `pspd up` to continue",
            ),
            (
                deep(advised.unwrap_err()),
                "failed to start: failed to read: failed to call `web`: no answer. Try again",
            ),
            (
                deep(anyhow!("no answer")),
                "failed to start: failed to read: no answer",
            ),
        ] {
            assert_eq!(told(&error), expected);
        }
    }
}
