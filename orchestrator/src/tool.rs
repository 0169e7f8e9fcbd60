//! Runs the distribution's tools for disks, file systems and ROMs; what one prints on standard error becomes the error.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

/// Runs `command` to its end with `input` on its standard input. `package` is what to install if it is missing.
pub(crate) fn run(command: &mut Command, package: &str, input: &[u8]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                anyhow!("`{name}` is not installed; install the package `{package}`")
            }
            _ => anyhow!(error).context(format!("failed to start `{name}`")),
        })?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err(error).with_context(|| format!("failed to write to `{name}`"));
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("failed to wait for `{name}`"))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr);
        bail!("`{name}` failed ({}): {}", output.status, printed.trim());
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
    fn a_missing_tool_names_its_package() {
        let error = run(&mut Command::new("pspd-missing"), "qemu-utils", b"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`pspd-missing` is not installed; install the package `qemu-utils`"
        );
    }
}
