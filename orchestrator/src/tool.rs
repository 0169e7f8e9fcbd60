//! Runs the distribution's tools for disks, file systems and ROMs; what one prints on standard error becomes the error.

use std::io::{self, ErrorKind, Read as _, Seek as _, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio_util::sync::CancellationToken;

use crate::cancelled::Cancelled;

/// How often a tool that can be cancelled is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Runs `command` to its end with `input` on its standard input. `package` is what to install if it is missing.
pub(crate) fn run(command: &mut Command, package: &str, input: &[u8]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&name, package, error))?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err(error).with_context(|| format!("failed to write to `{name}`"));
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("failed to wait for `{name}`"))?;
    ended(&name, output.status, &output.stderr)
}

/// Runs `command` without input until it ends or the run is cancelled, which kills it. `during` completes
/// `cancelled while`.
pub(crate) fn run_until_cancelled(
    command: &mut Command,
    package: &str,
    during: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut printed = tempfile::tempfile().context("failed to create a temporary file")?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command
        .stderr(printed.try_clone()?)
        .spawn()
        .map_err(|error| not_started(&name, package, error))?;
    let waiting = || format!("failed to wait for `{name}`");
    loop {
        if let Some(status) = child.try_wait().with_context(waiting)? {
            let mut text = Vec::new();
            printed.rewind()?;
            printed.read_to_end(&mut text)?;
            return ended(&name, status, &text);
        }
        if cancel.is_cancelled() {
            child.kill().with_context(waiting)?;
            child.wait().with_context(waiting)?;
            return Err(Cancelled::during(during).into());
        }
        std::thread::sleep(POLL);
    }
}

fn not_started(name: &str, package: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => {
            anyhow!("`{name}` is not installed; install the package `{package}`")
        }
        _ => anyhow!(error).context(format!("failed to start `{name}`")),
    }
}

fn ended(name: &str, status: ExitStatus, printed: &[u8]) -> Result<()> {
    if !status.success() {
        let printed = String::from_utf8_lossy(printed);
        bail!("`{name}` failed ({status}): {}", printed.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_tools_own_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat >&2; exit 3"]);
        let error = run(&mut command, "dash", b"no such disk\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh` failed (exit status: 3): no such disk"
        );
    }

    #[test]
    fn a_cancelled_tool_is_killed() {
        let cancel = CancellationToken::new();
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_until_cancelled(&mut command, "dash", "testing", &cancel)
        };
        run("exit 0").unwrap();
        let error = run("echo 'no such disk' >&2; exit 3").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh` failed (exit status: 3): no such disk"
        );
        cancel.cancel();
        let began = std::time::Instant::now();
        let error = run("exec sleep 60").unwrap_err();
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
        assert!(began.elapsed().as_secs() < 30);
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let error = run(&mut Command::new("pspd-missing"), "qemu-utils", b"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`pspd-missing` is not installed; install the package `qemu-utils`"
        );
    }
}
