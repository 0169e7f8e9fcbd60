//! The integrity of SQLite's files while they are in use.
//!
//! ```text
//! before each commit               the files are those that were opened          else the write is refused
//! on a schedule, and after errors  `PRAGMA quick_check` on a connection of its own   else all writes are refused
//! ```
//! Reads continue as far as the engine can answer them. Both are repeated: a store that was restored serves again.
//! PostgreSQL checks its own files.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _};
use serving::CancellationToken;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Fault;
use super::engine::sqlite_options;
use super::location::Location;

/// Between two checks of the file's size.
const INTERVAL: Duration = Duration::from_secs(1);
/// A scheduled check takes one part in so many of the time, one after an error one in [`SUSPECTED_SHARE`].
const SCHEDULED_SHARE: u32 = 100;
const SUSPECTED_SHARE: u32 = 4;
/// Between two scheduled checks.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
/// Steps of a check between two questions whether to stop.
const STEPS: i32 = 1000;

/// What is known about the files of an open store.
#[derive(Debug, Clone)]
pub(super) struct Integrity {
    files: Arc<[OpenFile]>,
    state: Arc<State>,
    stop: CancellationToken,
    checks: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Debug, Default)]
struct State {
    damage: Mutex<Option<String>>,
    suspected: Notify,
}

/// A file by its name, and which one that was.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Integrity {
    /// Starts to watch a store that has just been opened and checked.
    pub(super) fn watch(location: &Location) -> std::io::Result<Self> {
        let mut integrity = Self {
            files: Arc::new([]),
            state: Arc::default(),
            stop: CancellationToken::new(),
            checks: Arc::default(),
        };
        let Location::File(path) = location else {
            return Ok(integrity);
        };
        // SQLite puts the others beside the file that a link leads to.
        let path = path.canonicalize()?;
        let files = ["", "-wal", "-shm"].map(|suffix| {
            let mut path = path.clone().into_os_string();
            path.push(suffix);
            OpenFile::of(path.into())
        });
        integrity.files = files.into_iter().collect::<Result<_, _>>()?;
        let checks = check_regularly(path, integrity.state.clone(), integrity.stop.clone());
        integrity.checks = Arc::new(Mutex::new(Some(tokio::spawn(checks))));
        Ok(integrity)
    }

    /// Ends the checks; after that none has a connection.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        let checks = locked(&self.checks).take();
        if let Some(checks) = checks {
            // It has no result; if it panicked, that was logged.
            let _ended = checks.await;
        }
    }

    /// Refuses writes that a later start would not find.
    pub(super) fn admit(&self) -> Result<(), Fault> {
        // The kernel has these names cached: this is too short for a blocking thread.
        if let Some(moved) = self.files.iter().find(|file| !file.is_in_place()) {
            let path = moved.path.display();
            return Err(Fault::Moved(format!(
                "`{path}` was removed or replaced while it was in use"
            )));
        }
        match &*locked(&self.state.damage) {
            Some(damage) => Err(Fault::Damaged(damage.clone())),
            None => Ok(()),
        }
    }

    /// Has the store checked soon if an error may come from damage.
    pub(super) fn consider(&self, fault: &Fault) {
        if matches!(fault, Fault::Damaged(_) | Fault::Failed(_)) {
            self.state.suspected.notify_one();
        }
    }
}

impl OpenFile {
    fn of(path: PathBuf) -> std::io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn is_in_place(&self) -> bool {
        let found = self.path.metadata();
        found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

/// Checks the store until `stop`.
async fn check_regularly(path: PathBuf, state: Arc<State>, stop: CancellationToken) {
    let (mut suspected, mut size) = (false, 0);
    let (mut checked, mut took) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = state.suspected.notified() => suspected = true,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        // The file of a store does not get shorter.
        let now = tokio::fs::metadata(&path)
            .await
            .map_or(size, |found| found.len());
        suspected |= now < size;
        size = now;
        let pause = match suspected {
            true => (took * SUSPECTED_SHARE).max(INTERVAL),
            false => (took * SCHEDULED_SHARE).clamp(PAUSE.0, PAUSE.1),
        };
        if checked.elapsed() < pause {
            continue;
        }
        let began = Instant::now();
        let found = quick_check(&path, &stop).await;
        (suspected, checked, took) = (false, Instant::now(), began.elapsed());
        match found {
            Ok(()) => *locked(&state.damage) = None,
            Err(Fault::Damaged(damage)) => {
                tracing::error!(damage, "the store is damaged: writes are refused");
                *locked(&state.damage) = Some(damage);
            }
            Err(_) if stop.is_cancelled() => return,
            Err(fault) => tracing::warn!(%fault, "failed to check the store"),
        }
    }
}

/// On a new connection, which has no page of the file in its cache.
async fn quick_check(path: &Path, stop: &CancellationToken) -> Result<(), Fault> {
    let options = sqlite_options(SqliteConnectOptions::new(), path).disable_statement_logging();
    let mut connection = options.connect().await?;
    let stopped = stop.clone();
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS, move || !stopped.is_cancelled());
    drop(handle);
    let check = sqlx::query_scalar("PRAGMA quick_check(1)");
    let verdict: Result<String, _> = check.fetch_one(&mut connection).await;
    connection.close().await?;
    match verdict? {
        verdict if verdict == "ok" => Ok(()),
        verdict => Err(Fault::Damaged(verdict)),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
