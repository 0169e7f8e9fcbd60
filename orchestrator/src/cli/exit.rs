//! Exit codes, and the only place where errors are printed.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Write as _};

use pspd_model::hint::joined;

use crate::hint;

/// The exit codes of a command. The numbers are stable and documented in `pspd --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Failed = 1,
    InvalidTopology = 3,
    /// There are changes to make, or something is not healthy.
    Differs = 4,
    Locked = 5,
    Unprepared = 6,
    Interrupted = 130,
}

/// An error with its own exit code; `hint` is what the user can do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Coded {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

/// Ends the process with a command's result, and prints an error with its causes and their hints.
pub(super) fn end_with(result: anyhow::Result<Exit>) -> ! {
    let exit = result.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return Exit::Done;
        }
        let mut causes = error.chain();
        let coded = causes.find_map(|cause| cause.downcast_ref::<Coded>());
        let exit = coded.map_or(Exit::Failed, |coded| coded.exit);
        // Without stderr, the exit code is the only way to report the error.
        let _ = writeln!(crate::terminal::err(), "{}", render(&error));
        exit
    });
    end(exit)
}

/// Ends the process with the exit code of a command that ran elsewhere.
pub(super) fn pass_on(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Ends the process at once. Exit handlers do not run: those of OpenSSL free what the threads of abandoned work still use.
pub(super) fn end(exit: Exit) -> ! {
    // A reader that went away has what it wants.
    let _ = crate::terminal::raw().flush();
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(exit as i32) }
}

/// Whether the error is that the reader of stdout went away, as `head` does: it has what it wants. Errors of other pipes
/// and sockets say what was attempted.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        && error.chain().count() == 1
}

/// Each error of the chain is on its own line, followed by its own hint.
fn render(error: &anyhow::Error) -> String {
    let shown = |cause: &(dyn Error + 'static)| {
        let hint = match cause.downcast_ref::<Coded>() {
            Some(coded) => coded.hint.as_deref().map(Cow::Borrowed),
            None => hint::of(cause),
        };
        joined(&cause.to_string(), hint.as_deref())
    };
    let lines: Vec<String> = error.chain().map(shown).collect();
    format!("error: {}", lines.join("\n  caused by: "))
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context as _, anyhow};
    use pspd_model::hint::Hint as _;
    use pspd_model::plan::PlanError;
    use pspd_model::spec::Name;

    use super::{Coded, Exit};

    #[test]
    fn a_closed_pipe_is_not_a_failure_if_only_output_was_written() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(super::is_closed_pipe(&closed().into()));
        let sent = Err::<(), _>(closed()).context("failed to send");
        assert!(!super::is_closed_pipe(&sent.expect_err("it is an error")));
    }

    #[test]
    fn an_error_is_printed_with_its_causes_in_order() {
        let error = Err::<(), _>(anyhow!("connection refused"))
            .context("failed to dial `10.0.0.2:22`")
            .context("failed to deploy `web`")
            .expect_err("it is an error");
        assert_eq!(
            super::render(&error),
            "error: failed to deploy `web`\n  caused by: failed to dial `10.0.0.2:22`\n  caused by: connection refused"
        );
    }

    #[test]
    fn a_hint_is_printed_once_after_the_error_that_it_is_for() {
        let deployment = Name::new("demo").unwrap();
        let not_up = PlanError::NotUp { deployment };
        assert_eq!(
            super::render(&not_up.clone().into()),
            "error: `demo` is not up. Run `pspd up` to start it"
        );
        let deep = Err::<(), _>(not_up).context("failed to plan");
        let deep = deep.hint("Try again").context("failed to save");
        assert_eq!(
            super::render(&deep.unwrap_err()),
            "error: failed to save\n  caused by: failed to plan. Try again\n  caused by: `demo` is not up. Run `pspd up` to start it"
        );
    }

    #[test]
    fn the_hint_of_an_invalid_topology_is_a_paragraph() {
        let invalid = |hint: Option<&str>| Coded {
            exit: Exit::InvalidTopology,
            message: "1 error in `a`\n\na:1:1: no\n".to_owned(),
            hint: hint.map(str::to_owned),
        };
        assert_eq!(
            super::render(&invalid(Some("Pass `--deployment NAME`")).into()),
            "error: 1 error in `a`\n\na:1:1: no\n\nPass `--deployment NAME`"
        );
        assert_eq!(
            super::render(&invalid(None).into()),
            "error: 1 error in `a`\n\na:1:1: no\n"
        );
    }
}
