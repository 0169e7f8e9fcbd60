//! A guest's serial console through libvirt, which also works if its pty is in another namespace or on another host.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use virt::stream::Stream;
use virt_sys as sys;

use super::error::Attempt;
use super::ffi::{self, Incoming};
use super::{Domain, Result};

/// Both directions of a console, each for use by one thread.
#[derive(Debug)]
pub struct Console {
    pub reader: ConsoleReader,
    pub writer: ConsoleWriter,
}

/// The guest's output. Reading blocks, and ends when the domain stops or the writer closes the console.
#[derive(Debug)]
pub struct ConsoleReader {
    chunks: Receiver<Vec<u8>>,
    chunk: io::Cursor<Vec<u8>>,
    _session: Arc<Session>,
}

/// The guest's input.
#[derive(Clone, Debug)]
pub struct ConsoleWriter {
    session: Arc<Session>,
}

impl Domain {
    /// Opens the first serial console. `force` disconnects an existing session.
    pub fn console(&self, force: bool) -> Result<Console> {
        let attempt = || format!("open the console of domain `{}`", self.name());
        let flags = if force {
            sys::VIR_DOMAIN_CONSOLE_FORCE
        } else {
            0
        };
        let stream =
            Stream::new(self.connection().raw(), sys::VIR_STREAM_NONBLOCK).attempt(attempt)?;
        self.raw()
            .open_console(None, &stream, flags)
            .attempt(attempt)?;
        let (sender, chunks) = channel();
        let to_reader = ToReader(Arc::new(Mutex::new(Some(sender))));
        let received = to_reader.clone();
        let sink = move |incoming: Incoming<'_>| match incoming {
            Incoming::Data(data) => received.send(data),
            Incoming::End => received.end(),
        };
        let session = Arc::new(Session {
            stream,
            to_reader,
            closed: AtomicBool::new(false),
        });
        ffi::on_stream(&session.stream, Box::new(sink)).attempt(attempt)?;
        Ok(Console {
            reader: ConsoleReader {
                chunks,
                chunk: io::Cursor::default(),
                _session: session.clone(),
            },
            writer: ConsoleWriter { session },
        })
    }
}

impl Read for ConsoleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.chunks.recv() {
                Ok(chunk) => self.chunk = io::Cursor::new(chunk),
                Err(_) => return Ok(0),
            }
        }
    }
}

impl ConsoleWriter {
    /// Closes the console in both directions; the domain keeps running.
    pub fn close(&self) {
        self.session.end();
    }
}

impl Write for ConsoleWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.session.closed.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            // -2: libvirt cannot accept more data now. Typed input is never that fast for long.
            match self.session.stream.send(data).map_err(io::Error::other)? {
                -2 => std::thread::sleep(Duration::from_millis(10)),
                count => return usize::try_from(count).map_err(io::Error::other),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The sender to the reader. Dropping it is the reader's end of file, whichever side ends first.
#[derive(Clone)]
struct ToReader(Arc<Mutex<Option<Sender<Vec<u8>>>>>);

impl ToReader {
    fn send(&self, data: &[u8]) {
        if let Some(sender) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without a reader, the data is discarded.
            let _ = sender.send(data.to_vec());
        }
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct Session {
    stream: Stream,
    to_reader: ToReader,
    closed: AtomicBool,
}

impl Session {
    fn end(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            // First: libvirt may keep the callback, or be slow to end the stream.
            self.to_reader.end();
            ffi::end_stream(&self.stream);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
