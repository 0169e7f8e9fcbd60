//! Connections by the system's `ssh`, which knows the user's keys, known hosts and jump hosts.

use std::fs::{self, DirBuilder};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use pspd_model::hint::{Hint as _, Hinted};
use pspd_model::spec::{HostSpec, Name};
use rustix::process::getuid;

use crate::guest::shell_word;

/// What `ssh` itself ends with when it fails; other codes are those of the command.
pub(super) const FAILED: i32 = 255;

/// `ssh` lengthens the path of a socket while it makes it, and addresses of sockets have 107 bytes.
const LONGEST_SOCKET: usize = 85;

/// A machine's name in the topology, and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Ssh {
    pub name: Name,
    pub host: HostSpec,
    shared: Arc<OnceLock<Shared>>,
}

/// A connection that the commands of this process on a host share: to connect takes longer than most of what they do.
#[derive(Debug)]
struct Shared {
    /// It ends with this process, whose pipe it reads, however that ends.
    ssh: Child,
    socket: PathBuf,
}

impl Shared {
    /// A path for a new socket that only this user reaches; `None` if there is no such place.
    fn new_socket() -> Option<PathBuf> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let user = getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("pspd-{user}"));
        // It may exist.
        let _ = DirBuilder::new().mode(0o700).create(&folder);
        let found = fs::symlink_metadata(&folder).ok()?;
        let is_own = found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let socket = folder.join(format!("{}-{number}", std::process::id()));
        (is_own && socket.as_os_str().len() <= LONGEST_SOCKET).then_some(socket)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

impl Ssh {
    pub(crate) fn to(name: &Name, host: &HostSpec) -> Ssh {
        Ssh {
            name: name.clone(),
            host: host.clone(),
            shared: Arc::default(),
        }
    }

    /// Connects, for what follows to share the connection. Where that is not possible, each command connects for itself.
    pub(crate) fn share(&self) -> Result<()> {
        if self.shared.get().is_some() {
            return Ok(());
        }
        let Some(socket) = Shared::new_socket() else {
            return Ok(());
        };
        let mut ssh = self.command();
        ssh.arg("-MT").arg("-S").arg(&socket);
        // Whatever the user's configuration says.
        ssh.args(["-o", "ControlPersist=no"]);
        ssh.args(self.words_of("echo; exec cat"));
        // A Ctrl-C here must not end what the others use.
        let ssh = with_pipes(&mut ssh).process_group(0).spawn();
        let ssh = ssh.context("failed to run `ssh`");
        let mut ssh = ssh.hint("Install openssh-client")?;
        let mut connected = [0];
        let answer = ssh.stdout.as_mut().context("`ssh` has no output")?;
        if answer.read(&mut connected)? == 0 {
            let output = ssh.wait_with_output();
            return self.printed(output?).map(drop);
        }
        self.shared.get_or_init(|| Shared { ssh, socket });
        Ok(())
    }

    /// `ssh` to the host; what it runs follows. Nobody is asked for anything: a key that is not known is refused.
    pub(super) fn command(&self) -> Command {
        let mut ssh = Command::new("ssh");
        if let Some(shared) = self.shared.get() {
            ssh.args(["-o", "ControlMaster=no", "-S"]);
            ssh.arg(&shared.socket);
        }
        if let Some(config) = &self.host.config {
            ssh.arg("-F").arg(config);
        }
        if let Some(port) = self.host.port {
            ssh.args(["-p", &port.to_string()]);
        }
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=4",
        ] {
            ssh.args(["-o", option]);
        }
        ssh
    }

    /// The destination, and a script for its POSIX shell, whatever the user's own shell is.
    pub(super) fn words_of(&self, script: &str) -> [String; 2] {
        // Where libvirtd and dnsmasq are, which the PATH of many SSH servers lacks.
        let script = format!("PATH=\"$PATH:/usr/sbin:/sbin\"; {script}");
        let script = format!("exec sh -c {}", shell_word(&script));
        [self.host.ssh.clone(), script]
    }

    /// Runs a script there, and returns what that prints.
    pub(super) fn ask(&self, script: &str) -> Result<String> {
        let mut ssh = self.command();
        let output = ssh.arg("-nT").args(self.words_of(script)).output();
        self.printed(output.context("failed to run `ssh`")?)
    }

    /// What a command printed that ended well.
    pub(super) fn printed(&self, output: Output) -> Result<String> {
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(FAILED) {
            return Err(self.unreachable(&errors));
        }
        if !output.status.success() {
            let printed = errors.trim();
            let printed = printed.strip_prefix("error: ").unwrap_or(printed);
            bail!("host `{}`: {printed}", self.name);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Why `ssh` did not get there, by what it printed.
    pub(super) fn unreachable(&self, printed: &str) -> anyhow::Error {
        let (name, to) = (&self.name, &self.host.ssh);
        let words = self.words();
        let (what, hint) = if printed.contains("IDENTIFICATION HAS CHANGED") {
            let what = format!("host `{name}` shows another key than the one that is known");
            let hint = "Somebody may be between you and it. If it was installed again, compare the new key there, and remove the old one with `ssh-keygen -R`";
            (what, hint.to_owned())
        } else if printed.contains("Host key verification failed") {
            let what = format!("the key of host `{name}` is not known");
            (
                what,
                format!(
                    "Run `{words}` once, compare the fingerprint with the host's own, and accept it"
                ),
            )
        } else if printed.contains("Permission denied") {
            let what = format!("host `{name}` accepts no key of yours for `{to}`");
            (
                what,
                format!(
                    "Add your key there with `ssh-copy-id {to}`; pspd does not ask for passwords"
                ),
            )
        } else {
            let what = format!("failed to reach host `{name}`: {}", last_line(printed));
            (what, format!("Try `{words}`"))
        };
        Hinted::new(what, hint).into()
    }

    /// What a person would type to get there.
    fn words(&self) -> String {
        let mut words = "ssh".to_owned();
        if let Some(config) = &self.host.config {
            words += &format!(" -F {}", config.display());
        }
        if let Some(port) = self.host.port {
            words += &format!(" -p {port}");
        }
        format!("{words} {}", self.host.ssh)
    }

    /// A command that reads this process and writes to it.
    pub(super) fn piped(&self, script: &str) -> Command {
        let mut ssh = self.command();
        ssh.arg("-T").args(self.words_of(script));
        with_pipes(&mut ssh);
        ssh
    }
}

fn with_pipes(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped())
}

fn last_line(printed: &str) -> &str {
    let line = printed.lines().rev().find(|line| !line.trim().is_empty());
    // `ssh` says nothing where another one had the connection.
    line.map_or("the connection ended", str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_ssh_says_what_to_do() {
        let host = HostSpec {
            ssh: "me@alpha".to_owned(),
            port: Some(2222),
            config: None,
            gateway: None,
        };
        let name = Name::new("alpha").unwrap();
        let ssh = Ssh::to(&name, &host);
        // As OpenSSH 9 prints them.
        for (printed, what, hint) in [
            (
                "No ED25519 host key is known for [alpha]:2222 and you have requested strict checking.\r\nHost key verification failed.\r\n",
                "the key of host `alpha` is not known",
                "`ssh -p 2222 me@alpha`",
            ),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n",
                "shows another key than the one that is known",
                "`ssh-keygen -R`",
            ),
            (
                "me@alpha: Permission denied (publickey,password).\r\n",
                "host `alpha` accepts no key of yours for `me@alpha`",
                "`ssh-copy-id me@alpha`",
            ),
            (
                "ssh: connect to host alpha port 2222: Connection refused\r\n",
                "failed to reach host `alpha`: ssh: connect to host alpha port 2222: Connection refused",
                "`ssh -p 2222 me@alpha`",
            ),
        ] {
            let error = crate::hint::told(&ssh.unreachable(printed));
            assert!(error.contains(what) && error.contains(hint), "{error}");
        }
    }
}
