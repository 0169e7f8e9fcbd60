//! Follows a boot's two consoles on a thread, so that each stage has the time at which it was seen.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::stages::{Console, Reader, Times};

/// How exact a stage's time is.
const LOOK: Duration = Duration::from_millis(10);
/// Longer than any boot: a watch whose boot nobody waits for ends by itself.
const LIMIT: Duration = Duration::from_secs(600);

/// A boot that is being followed, until this is dropped.
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
    /// To be called right before the power is switched on. The firmware's log of the boot before is removed.
    pub fn begin(serial: &Path, debug: &Path) -> anyhow::Result<Watch> {
        crate::state::remove_if_there(debug)?;
        let watch = Watch {
            began: Instant::now(),
            started: jiff::Timestamp::now(),
            shared: Arc::default(),
        };
        let (shared, began) = (Arc::clone(&watch.shared), watch.began);
        // The serial log goes on from boot to boot.
        let serial = Tail {
            read: fs::metadata(serial).map_or(0, |file| file.len()),
            path: serial.to_owned(),
        };
        let debug = Tail {
            read: 0,
            path: debug.to_owned(),
        };
        thread::Builder::new()
            .name("boot watch".into())
            .spawn(move || {
                follow(
                    [(Console::Debug, debug), (Console::Serial, serial)],
                    &shared,
                    began,
                )
            })
            .context("failed to start a thread")?;
        Ok(watch)
    }

    pub fn started(&self) -> jiff::Timestamp {
        self.started
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What was seen so far.
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
    // A reader that panicked has whole times all the same.
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
        thread::sleep(LOOK);
    }
}

/// A file that grows, and how far it was read.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    /// What was appended since; nothing where the file is not there yet.
    fn new_text(&mut self) -> String {
        let mut bytes = Vec::new();
        let appended = File::open(&self.path).and_then(|mut file| {
            if file.metadata()?.len() <= self.read {
                return Ok(0);
            }
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
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
    fn a_boot_is_followed_from_where_its_logs_begin() {
        let folder = tempfile::tempdir().unwrap();
        let (serial, debug) = (folder.path().join("serial"), folder.path().join("debug"));
        fs::write(&serial, "[0.0] Linux version of the boot before\n").unwrap();
        fs::write(&debug, "Booting from the boot before\n").unwrap();
        let watch = Watch::begin(&serial, &debug).unwrap();
        assert!(!debug.exists());
        fs::write(&debug, "Booting from Hard Disk...\n").unwrap();
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
            thread::sleep(LOOK);
        }
    }
}
