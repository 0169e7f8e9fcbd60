//! The lock of a deployment: only one command may change it at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::create_private;
use super::files::{denied, placed};
use crate::held::Held;

const RETRY: Duration = Duration::from_millis(100);

/// Whether to wait for a lock that another process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Wait,
    Refuse,
}

/// Another process holds the lock.
#[derive(Debug, thiserror::Error)]
#[error("another pspd process is working on this deployment: {holder}")]
pub struct Locked {
    pub holder: String,
}

/// A held lock. The kernel releases it when the process ends for any reason.
#[derive(Debug)]
pub struct Lock {
    _file: Held,
}

impl Lock {
    /// Takes the lock. If another process holds it, calls `waiting` once with the holder and waits, or fails with
    /// [`Locked`].
    pub fn take(
        path: &Path,
        patience: Patience,
        cancel: &CancellationToken,
        waiting: impl FnOnce(&str),
    ) -> anyhow::Result<Lock> {
        let mut waiting = Some(waiting);
        let mut file = open(path).map_err(placed)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, path) => break,
                Ok(()) => {
                    // The previous holder removed the directory.
                    file = open(path)?;
                    continue;
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("failed to lock `{}`", path.display()));
                }
            }
            let holder = holder(&mut file);
            if patience == Patience::Refuse || cancel.is_cancelled() {
                return Err(Locked { holder }.into());
            }
            if let Some(waiting) = waiting.take() {
                waiting(&holder);
            }
            std::thread::sleep(RETRY);
        }
        record_holder(&mut file)
            .with_context(|| {
                format!(
                    "failed to write the holder to the lock `{}`",
                    path.display()
                )
            })
            .map_err(placed)?;
        Ok(Lock {
            _file: Held::new(file),
        })
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        create_private(folder)?;
    }
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
        .open(path)
        .map_err(|error| denied(path, error))
        .with_context(|| format!("failed to open the lock `{}`", path.display()))
}

/// Returns whether `path` still refers to the open file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "just started".to_owned(),
    }
}

fn record_holder(file: &mut File) -> std::io::Result<()> {
    let command: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let since = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    file.set_len(0)?;
    file.rewind()?;
    write!(
        file,
        "process {} (`pspd {}`), since {since}",
        std::process::id(),
        command.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_is_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let cancel = CancellationToken::new();
        let first = Lock::take(&path, Patience::Refuse, &cancel, |_| {}).unwrap();
        let error = Lock::take(&path, Patience::Refuse, &cancel, |_| {}).unwrap_err();
        let locked = error.downcast::<Locked>().unwrap();
        assert!(
            locked
                .holder
                .starts_with(&format!("process {} ", std::process::id())),
            "{}",
            locked.holder
        );
        drop(first);
        Lock::take(&path, Patience::Refuse, &cancel, |_| {}).unwrap();
    }

    #[test]
    fn a_waiter_gets_the_lock_file_at_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let cancel = CancellationToken::new();
        let first = Lock::take(&path, Patience::Refuse, &cancel, |_| {}).unwrap();
        let (sender, waiting) = std::sync::mpsc::channel();
        let (lock_path, token) = (path.clone(), cancel.clone());
        let second = std::thread::spawn(move || {
            Lock::take(&lock_path, Patience::Wait, &token, |_| {
                sender.send(()).unwrap()
            })
        });
        waiting.recv().unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(first);
        let _second = second.join().unwrap().unwrap();
        assert!(
            Lock::take(&path, Patience::Refuse, &cancel, |_| {}).is_err(),
            "two processes hold it"
        );
    }
}
