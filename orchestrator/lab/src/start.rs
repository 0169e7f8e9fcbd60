//! Starts and stops a supervisor, and knows the paths of its sockets.
//!
//! ```text
//! DIR/lock             locked (flock) from before a supervisor starts until the lab's last process ends
//! DIR/run              the runtime directory, or a link to it: the path of a socket is short (unix(7)) and plain
//! DIR/supervisor.log   the log of the supervisor and libvirtd
//! DIR/{etc,lib,cache,log}   libvirt's directories in the lab, or links to them
//! ```

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pspd_model::hint::{Hint as _, Hinted, joined};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::holder::{self, Holder};
use crate::host;
use crate::inherited;
use crate::wire::{self, Announcement, Reply, Request, Status};

const LONGEST_SOCKET_NAME: &str = "libvirt-admin-sock";
/// `sun_path` of unix(7), less the final NUL.
const LONGEST_SOCKET_PATH: usize = 107;
/// Longer than the supervisor waits for libvirtd.
const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const REPLY_WITHIN: Duration = Duration::from_secs(10);
/// A supervisor restores a socket that was removed within [`crate::supervisor::CHECK`].
const RESTORED_WITHIN: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Whether a supervisor has namespaces and libvirtd, or only relays connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lab,
    Relay,
}

pub(super) fn runtime_directory(dir: &Path) -> PathBuf {
    let run = dir.join("run");
    fs::read_link(&run).unwrap_or(run)
}

pub(super) fn control_socket(dir: &Path) -> PathBuf {
    runtime_directory(dir).join("control")
}

pub(super) fn libvirt_socket(dir: &Path) -> PathBuf {
    runtime_directory(dir).join("libvirt-sock")
}

/// Returns the status of the supervisor of `dir`, if it is running. One whose socket was removed gets the time to restore
/// it; one that still does not answer is an error that names its process.
pub(super) fn status(dir: &Path) -> anyhow::Result<Option<Status>> {
    let deadline = Instant::now() + RESTORED_WITHIN;
    loop {
        if let Some(status) = ask(dir)? {
            return Ok(Some(status));
        }
        let Some(holder) = holder::find(dir) else {
            return Ok(None);
        };
        refuse_after(deadline, dir, Some(holder))?;
        std::thread::sleep(LOCK_POLL);
    }
}

/// Asks the supervisor on its socket; `None` if nobody listens there.
fn ask(dir: &Path) -> anyhow::Result<Option<Status>> {
    match request(dir, &Request::Status)? {
        Some(Reply::Status(status)) => Ok(Some(status)),
        Some(reply) => {
            bail!("unexpected reply of the supervisor to a status request: `{reply:?}`")
        }
        None => Ok(None),
    }
}

/// Sends a request to the supervisor of `dir`; `None` if nobody listens on its socket.
fn request(dir: &Path, request: &Request) -> anyhow::Result<Option<Reply>> {
    check_runtime_directory(dir)?;
    let socket = control_socket(dir);
    match wire::call(&socket, request, None, REPLY_WITHIN) {
        Ok((reply, _)) => Ok(Some(reply)),
        Err(error) if is_not_running(&error) => Ok(None),
        Err(error) => Err(error)
            .with_context(|| format!("failed to call the supervisor on `{}`", socket.display())),
    }
}

/// Returns whether the error means that no supervisor is running: there is no socket, the socket is stale, the
/// supervisor ended during the call, or (`InvalidInput`) the path is too long for a socket.
fn is_not_running(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof | InvalidInput
    )
}

/// Starts the supervisor of `dir` with `program`, or connects to the running supervisor.
pub(super) fn start(program: &Path, dir: &Path, kind: Kind) -> anyhow::Result<Status> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("failed to create directory `{}`", dir.display()))?;
    let deadline = Instant::now() + START_WITHIN;
    loop {
        if let Some(status) = ask(dir)? {
            return Ok(status);
        }
        let (lock, holder) = (try_lock(dir)?, holder::find(dir));
        match (lock, holder) {
            (Some(lock), None) => {
                launch(program, dir, kind, lock)?;
                return ask(dir)?.context("the supervisor ended immediately after its start");
            }
            // Another process may have started it, or it restores its socket.
            (_, holder) => refuse_after(deadline, dir, holder)?,
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// Stops the supervisor and waits until the last process of its lab has ended.
pub(super) fn stop(dir: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_WITHIN;
    loop {
        // Again while it lives: it may be restoring its socket.
        request(dir, &Request::Stop)?;
        let holder = holder::find(dir);
        match (dir.exists(), holder) {
            (false, None) => return Ok(()),
            (true, None) => {
                if let Some(_lock) = try_lock(dir)? {
                    return clear_runtime_directory(dir);
                }
            }
            (_, Some(_)) => {}
        }
        refuse_after(deadline, dir, holder)?;
        std::thread::sleep(LOCK_POLL);
    }
}

/// Fails with the process that holds the directory: after the deadline, or at once where waiting is of no use.
fn refuse_after(deadline: Instant, dir: &Path, holder: Option<Holder>) -> anyhow::Result<()> {
    let late = Instant::now() >= deadline || !dir.exists();
    match holder {
        Some(holder) if late || holder.state == holder::State::Stopped => {
            let message = format!(
                "the supervisor of `{}` does not answer: {holder}",
                dir.display()
            );
            bail!(Hinted::new(message, holder.hint()))
        }
        None if late => bail!(
            "`{}` is locked by a process that cannot be seen from here, and no supervisor answers on `{}`",
            dir.join("lock").display(),
            control_socket(dir).display()
        ),
        _ => Ok(()),
    }
}

/// Locks a directory that exists.
fn try_lock(dir: &Path) -> anyhow::Result<Option<File>> {
    let path = dir.join("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to open `{}`", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("failed to lock `{}`", path.display()))
        }
    }
}

fn launch(program: &Path, dir: &Path, kind: Kind, lock: File) -> anyhow::Result<()> {
    if kind == Kind::Lab {
        let faults = host::faults();
        ensure!(
            faults.is_empty(),
            "this host cannot run a lab:\n{}",
            list(faults)
        );
    }
    clear_runtime_directory(dir)?;
    make_runtime_directory(dir)?;
    let path = dir.join("supervisor.log");
    let log =
        File::create(&path).with_context(|| format!("failed to create `{}`", path.display()))?;
    inherited::keep_from_children().context("failed to set close-on-exec on inherited files")?;
    // Orphaned immediately and in a new session, so that it outlives this process and its terminal.
    let mut child = command(program, dir, kind)
        .current_dir("/")
        .env("PATH", host::search_path())
        .stdin(lock)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("failed to run `setsid`")
        .hint("Install `util-linux`")?;
    let announced = child.stdout.take().map(announcement);
    child.wait().context("failed to wait for `setsid`")?;
    match announced.context("failed to read the output of `setsid`: not a pipe")?? {
        Some(Announcement::Ready) => Ok(()),
        Some(Announcement::Failed { error }) => {
            bail!("{error}\n{}", log_tail(&path))
        }
        None => bail!(
            "the supervisor failed to start\n{}",
            [log_tail(&path), list(host::likely_cause())]
                .join("\n")
                .trim_end()
        ),
    }
}

fn command(program: &Path, dir: &Path, kind: Kind) -> Command {
    let mut command = Command::new("setsid");
    command.arg("--fork");
    if kind == Kind::Lab {
        command
            .args(["unshare", "--fork", "--kill-child", "--mount-proc"])
            // File systems that the host unmounts must not stay busy in the lab.
            .args(["--mount", "--propagation", "slave"])
            .args(["--net", "--pid", "--uts", "--ipc"]);
        if !host::is_root() {
            command.args(["--map-root-user", "--map-auto"]);
        }
        command.arg("--");
    }
    command.arg(program).arg(holder::SUBCOMMAND).arg(dir);
    command
}

/// Reads the supervisor's announcement; `None` if it ended without one.
fn announcement(output: ChildStdout) -> anyhow::Result<Option<Announcement>> {
    let limit = Timespec::try_from(START_WITHIN)?;
    let mut wait = [PollFd::new(&output, PollFlags::IN)];
    let ready = retry_on_intr(|| poll(&mut wait, Some(&limit)))
        .context("failed to wait for the supervisor")?;
    ensure!(
        ready > 0,
        "timed out after {} s waiting for the supervisor to start",
        START_WITHIN.as_secs()
    );
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .context("failed to read the supervisor's announcement")?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).with_context(|| {
        format!(
            "failed to parse the supervisor's announcement `{}`",
            line.trim_end()
        )
    })
}

fn log_tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(10)..].join("\n");
    format!("last lines of `{}`:\n{end}", path.display())
}

fn list(faults: impl IntoIterator<Item = Hinted>) -> String {
    let told = faults
        .into_iter()
        .map(|fault| joined(&fault.to_string(), Some(fault.hint())));
    let lines: Vec<String> = told.map(|fault| format!("- {fault}")).collect();
    lines.join("\n")
}

/// Removes the sockets of a previous supervisor. Must be called with the lock held.
fn clear_runtime_directory(dir: &Path) -> anyhow::Result<()> {
    let run = dir.join("run");
    let folder = fs::read_link(&run);
    let folder = folder.as_deref().unwrap_or(&run);
    if folder.exists() && is_own(folder)? {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove `{}`", folder.display()))?;
    }
    if folder != run {
        fs::remove_file(&run).with_context(|| format!("failed to remove `{}`", run.display()))?;
    }
    Ok(())
}

fn make_runtime_directory(dir: &Path) -> anyhow::Result<()> {
    let run = dir.join("run");
    if fits(&run) {
        return fs::DirBuilder::new()
            .mode(0o700)
            .create(&run)
            .with_context(|| format!("failed to create directory `{}`", run.display()));
    }
    let base = short_base()?;
    let short = tempfile::Builder::new()
        .prefix("pspd-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&base)
        .with_context(|| {
            format!(
                "failed to create a directory for sockets in `{}`",
                base.display()
            )
        })?;
    symlink(short.path(), &run)
        .with_context(|| format!("failed to create the link `{}`", run.display()))?;
    // Now the link points to it, and `clear_runtime_directory` removes it.
    let _ = short.keep();
    Ok(())
}

/// Refuses the runtime directory of somebody else: after a restart of the host, any user can create one of its name
/// under `/tmp`, and would be trusted as the supervisor.
fn check_runtime_directory(dir: &Path) -> anyhow::Result<()> {
    let folder = runtime_directory(dir);
    if !folder.exists() || is_own(&folder)? {
        return Ok(());
    }
    bail!(Hinted::new(
        format!(
            "`{}` is not a directory that only this user can use, so its sockets are not trusted",
            folder.display()
        ),
        format!("Remove the link `{}`", dir.join("run").display()),
    ))
}

/// Whether a path is a directory of this user that is closed to all others.
fn is_own(folder: &Path) -> anyhow::Result<bool> {
    let metadata = fs::symlink_metadata(folder)
        .with_context(|| format!("failed to inspect `{}`", folder.display()))?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    Ok(metadata.is_dir() && own && metadata.mode() & 0o077 == 0)
}

/// Whether sockets can be in a directory: libvirt's URIs and configuration have each a syntax of their own.
fn fits(directory: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let longest = directory.join(LONGEST_SOCKET_NAME);
    let longest = longest.as_os_str().as_bytes();
    longest.len() <= LONGEST_SOCKET_PATH && longest.iter().all(plain)
}

/// Returns a directory in which a directory for sockets fits.
fn short_base() -> anyhow::Result<PathBuf> {
    if host::is_root() {
        let base = PathBuf::from("/run/pspd");
        fs::create_dir_all(&base)
            .with_context(|| format!("failed to create directory `{}`", base.display()))?;
        return Ok(base);
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let base = runtime
        .into_iter()
        .chain([env::temp_dir()])
        .find(|base| base.is_dir() && fits(&base.join("pspd-123456")));
    Ok(base.unwrap_or_else(|| PathBuf::from("/tmp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_in_short_and_plain_directories() {
        let long = "/".repeat(100);
        for (directory, expected) in [
            ("/var/lib/pspd/deployments/demo-1/lab/run", true),
            (long.as_str(), false),
            ("/a b", false),
            ("/100%", false),
            ("/a?b=c&d#e", false),
            (r#"/"\"#, false),
            ("/ä", false),
        ] {
            assert_eq!(fits(Path::new(directory)), expected, "{directory}");
        }
    }

    /// A lab's directory whose runtime directory is elsewhere, as under a long state directory.
    #[test]
    fn a_runtime_directory_of_others_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, elsewhere) = (folder.path().join("lab"), folder.path().join("elsewhere"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, dir.join("run")).unwrap();
        let set = |mode| fs::set_permissions(&elsewhere, fs::Permissions::from_mode(mode)).unwrap();
        set(0o700);
        assert_eq!(status(&dir).unwrap().map(drop), None);
        for mode in [0o770, 0o701, 0o777] {
            set(mode);
            let error = status(&dir).map(drop).unwrap_err().to_string();
            assert!(error.contains("not trusted"), "{error}");
            stop(&dir).unwrap_err();
        }
        // It is not removed with the link either.
        fs::write(elsewhere.join("file"), "").unwrap();
        clear_runtime_directory(&dir).unwrap();
        assert!(elsewhere.join("file").exists() && !dir.join("run").exists());
        // A link in the place of the directory is none.
        symlink(&elsewhere, folder.path().join("second")).unwrap();
        symlink(folder.path().join("second"), dir.join("run")).unwrap();
        set(0o700);
        status(&dir).map(drop).unwrap_err();
    }
}
