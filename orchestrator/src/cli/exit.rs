//! Exit codes, and the only place where errors are printed.

#![allow(unsafe_code)]

use std::io::{self, Write as _};

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

/// An error with its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Coded {
    pub exit: Exit,
    pub message: String,
}

/// Ends the process with a command's result, and prints an error with its causes.
pub(super) fn end_with(result: anyhow::Result<Exit>) -> ! {
    let exit = result.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return Exit::Done;
        }
        let exit = error
            .downcast_ref::<Coded>()
            .map_or(Exit::Failed, |coded| coded.exit);
        // Without stderr, the exit code is the only way to report the error.
        let _ = writeln!(crate::terminal::err(), "{}", render(&error));
        exit
    });
    end(exit)
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

fn render(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context as _, anyhow};

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
}
