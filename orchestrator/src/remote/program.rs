//! Brings this program to a host, where it is named by its digest.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::schedule::Room;
use pspd_model::spec::{Digest, Name};
use tokio_util::sync::CancellationToken;

use super::ssh::Ssh;
use crate::digest;
use crate::event::Scope;
use crate::progress::Progress;

const SELF: &str = "/proc/self/exe";

/// How many versions stay there: a lab's supervisor runs the one that started it.
const KEPT: usize = 3;

/// This program on a host.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its path for the host's shell, quoted.
    pub path: String,
    digest: Digest,
    /// Whether it is there.
    pub there: bool,
}

/// Names this program. It is read once, for all hosts.
pub(super) fn own_digest() -> Result<Digest> {
    static OWN: Mutex<Option<Digest>> = Mutex::new(None);
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(own) = &*own {
        return Ok(own.clone());
    }
    let digest = digest::of_file(Path::new(SELF), &CancellationToken::new())?;
    Ok(own.insert(digest).clone())
}

/// Connects to the host, and looks for this program there.
pub(crate) fn find(ssh: &Ssh) -> Result<Program> {
    let own = own_digest()?;
    let path = format!("\"${{XDG_CACHE_HOME:-$HOME/.cache}}/pspd/programs/{own}/pspd\"");
    let answer = ssh.ask(&format!("uname -sm; ! test -x {path} || echo there"))?;
    let mut lines = answer.lines();
    let machine = lines.next().unwrap_or_default().trim();
    let wanted = format!("Linux {}", std::env::consts::ARCH);
    ensure!(
        machine == wanted,
        "host `{}` is `{machine}`; this pspd is for `{wanted}`",
        ssh.name
    );
    Ok(Program {
        path,
        digest: own,
        there: lines.any(|line| line == "there"),
    })
}

impl Program {
    /// Copies this program there. Another command that does the same at the same time does no harm.
    pub(crate) fn send(&self, ssh: &Ssh, scope: &Scope, cancel: &CancellationToken) -> Result<()> {
        let (path, digest) = (&self.path, &self.digest);
        let script = format!(
            "set -e; umask 077; program={path}; mkdir -p \"${{program%/*}}\"; new=$program.$$; \
             trap 'rm -f \"$new\"' EXIT; cat >\"$new\"; chmod 700 \"$new\"; \
             echo '{digest}' \"$new\" | sha256sum --check --quiet; \
             \"$new\" --version; mv \"$new\" \"$program\"; \
             cd \"${{program%/*/*}}\"; ls -t | tail -n +{} | xargs -r rm -rf --",
            KEPT + 1
        );
        let mut child = ssh.piped(&script).spawn().context("failed to run `ssh`")?;
        let mut from = File::open(SELF).context("failed to read the pspd program")?;
        let total = from.metadata().ok().map(|metadata| metadata.len());
        let progress = Progress::new(total, "copying pspd", scope, cancel);
        let to = child.stdin.take().context("`ssh` has no input")?;
        // The end of the connection says more than a closed pipe.
        let sent = std::io::copy(&mut from, &mut progress.watch(to));
        let output = child.wait_with_output();
        if cancel.is_cancelled() {
            sent?;
        }
        let output = output.context("failed to wait for `ssh`")?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if errors.contains("error while loading shared libraries") {
            bail!(Hinted::new(
                format!(
                    "host `{}` lacks what pspd needs: {}",
                    ssh.name,
                    errors.trim()
                ),
                "Install libvirt and QEMU there, as `prepare-host` of pspd's package does",
            ));
        }
        ssh.printed(output).map(drop).context("failed to copy pspd")
    }
}

/// Asks what the host has room for.
pub(crate) fn room(ssh: &Ssh, program: &Program, deployment: &Name) -> Result<Room> {
    let answer = ssh.ask(&format!("exec {} room {deployment}", program.path))?;
    let room = serde_json::from_str(&answer);
    room.with_context(|| format!("host `{}` printed `{answer}`", ssh.name))
}
