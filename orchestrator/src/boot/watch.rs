//! Follows the two consoles of a boot on a thread, to record the time of each stage.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::stages::{Console, Reader, Times};

/// The polling interval, and thus the precision of a stage's time.
const POLL: Duration = Duration::from_millis(10);
/// What is read of a log at a time, in bytes.
const MOST: u64 = 256 << 10;
/// Longer than any boot: afterwards, the thread ends even if the watch is not dropped.
const LIMIT: Duration = Duration::from_secs(600);

/// A boot that is followed until this is dropped.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    started: jiff::Timestamp,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    reader: Reader,
    ended: bool,
}

impl Watch {
    /// Must be called right before the domain is started. What its logs hold already is not looked at.
    pub fn begin(serial: &Path, debug: &Path) -> anyhow::Result<Watch> {
        let watch = Watch {
            began: Instant::now(),
            started: jiff::Timestamp::now(),
            shared: Arc::default(),
        };
        let (shared, began) = (Arc::clone(&watch.shared), watch.began);
        let tail = |path: &Path| Tail {
            read: fs::metadata(path).map_or(0, |file| file.len()),
            path: path.to_owned(),
        };
        let (serial, debug) = (tail(serial), tail(debug));
        thread::Builder::new()
            .name("boot watch".into())
            .spawn(move || {
                follow(
                    [(Console::Debug, debug), (Console::Serial, serial)],
                    &shared,
                    began,
                )
            })
            .context("failed to start the boot watch thread")?;
        Ok(watch)
    }

    pub fn started(&self) -> jiff::Timestamp {
        self.started
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the stages that were detected so far.
    pub fn times(&self) -> Times {
        locked(&self.shared).reader.times()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        locked(&self.shared).ended = true;
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // The times are valid even if a thread panicked.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(mut tails: [(Console, Tail); 2], shared: &Mutex<Shared>, began: Instant) {
    while began.elapsed() < LIMIT {
        for (console, tail) in &mut tails {
            let text = tail.new_text();
            if !text.is_empty() {
                locked(shared).reader.take(*console, &text, began.elapsed());
            }
        }
        if locked(shared).ended {
            return;
        }
        thread::sleep(POLL);
    }
}

/// A growing file, and the number of bytes read.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    /// Returns the text appended since the last call; empty if the file does not exist.
    fn new_text(&mut self) -> String {
        let mut bytes = Vec::new();
        let appended = File::open(&self.path).and_then(|mut file| {
            let length = file.metadata()?.len();
            if length < self.read {
                // The lab shortened it: what is left of it was read.
                self.read = length;
            }
            if length == self.read {
                return Ok(0);
            }
            file.seek(SeekFrom::Start(self.read))?;
            file.take(MOST).read_to_end(&mut bytes)
        });
        self.read += appended.unwrap_or(0) as u64;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_the_current_boots_part_of_the_logs_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (serial, debug) = (folder.path().join("serial"), folder.path().join("debug"));
        fs::write(&serial, "[0.0] Linux version of the boot before\n").unwrap();
        fs::write(&debug, "Booting from the boot before\n").unwrap();
        let watch = Watch::begin(&serial, &debug).unwrap();
        let mut log = File::options().append(true).open(&debug).unwrap();
        log.write_all(b"Booting from Hard Disk...\n").unwrap();
        until(&watch, |times| times.firmware.is_some());
        assert_eq!(watch.times().kernel, None);
        let mut log = File::options().append(true).open(&serial).unwrap();
        log.write_all(b"[0.0] Linux version 6\n[1.0] Run /init as init process\n")
            .unwrap();
        until(&watch, |times| times.init.is_some());
        let times = watch.times();
        assert!(times.firmware <= times.kernel && times.kernel <= times.init);
    }

    fn until(watch: &Watch, seen: impl Fn(Times) -> bool) {
        let began = Instant::now();
        while !seen(watch.times()) {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{:?}",
                watch.times()
            );
            thread::sleep(POLL);
        }
    }
}
