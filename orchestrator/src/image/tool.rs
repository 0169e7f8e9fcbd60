//! Runs the distribution's disk tools; what they say becomes the error.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// Runs `command` to its end with `input` on its standard input. `package` is what to install if it is missing.
pub fn run(command: &mut Command, package: &str, input: &[u8]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                anyhow!("`{name}` is not installed: install package `{package}`")
            }
            _ => anyhow!(error).context(format!("starting `{name}`")),
        })?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err(error).with_context(|| format!("writing to `{name}`"));
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for `{name}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{name}` failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}
