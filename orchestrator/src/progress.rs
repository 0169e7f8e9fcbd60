//! Readers and writers that report how far they are, and end when the run is cancelled.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::cancelled::Cancelled;
use crate::event::Scope;

/// How far an operation is, over all that it reads or writes. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    total: Option<u64>,
    scope: Scope,
    cancel: CancellationToken,
    during: String,
}

impl Progress {
    /// Of `total` bytes, if that is known. `during` completes `cancelled while`, such as `reading the archive`.
    pub(crate) fn new(
        total: Option<u64>,
        during: impl Into<String>,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Progress {
        Progress {
            done: Arc::default(),
            total,
            scope: scope.clone(),
            cancel: cancel.clone(),
            during: during.into(),
        }
    }

    /// Counts what is read from or written to `inner`.
    pub(crate) fn watch<T>(&self, inner: T) -> Watched<T> {
        Watched {
            inner,
            progress: self.clone(),
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Cancelled::during(&self.during).into());
        }
        Ok(())
    }

    fn advance(&self, count: usize) {
        let before = self.done.fetch_add(count as u64, Ordering::Relaxed);
        self.scope.progress(before + count as u64, self.total);
    }
}

/// A reader or a writer that is part of an operation.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    progress: Progress,
}

impl<T> Watched<T> {
    pub(crate) fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: Read> Read for Watched<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.progress.check()?;
        let count = self.inner.read(buffer)?;
        self.progress.advance(count);
        Ok(count)
    }
}

impl<T: Write> Write for Watched<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.check()?;
        let count = self.inner.write(bytes)?;
        self.progress.advance(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Events};

    #[test]
    fn all_that_is_read_and_written_counts_together() {
        let (events, mut received) = Events::channel();
        let scope = events.scope("step", None);
        let progress = Progress::new(Some(7), "running", &scope, &CancellationToken::new());
        let mut read = progress.watch(&b"abcd"[..]);
        assert_eq!(read.read(&mut [0; 4]).unwrap(), 4);
        let mut written = progress.watch(Vec::new());
        written.write_all(b"efg").unwrap();
        assert_eq!(written.into_inner(), b"efg");
        let mut reported = Vec::new();
        while let Ok(event) = received.try_recv() {
            if let Event::Progress { done, total, .. } = event {
                reported.push((done, total));
            }
        }
        assert_eq!(reported, [(4, Some(7)), (7, Some(7))]);
    }

    #[test]
    fn nothing_is_read_or_written_after_a_cancellation() {
        let cancel = CancellationToken::new();
        let progress = Progress::new(None, "running", &Scope::ignored(), &cancel);
        cancel.cancel();
        let read = progress.watch(&b"abcd"[..]).read(&mut [0; 4]).unwrap_err();
        let mut to = progress.watch(Vec::new());
        let written = to.write_all(b"efg").unwrap_err();
        assert_eq!(to.into_inner(), b"");
        for error in [read, written] {
            let error = anyhow::Error::from(error);
            assert!(Cancelled::is_cause_of(&error));
            assert_eq!(error.to_string(), "cancelled while running");
        }
    }
}
