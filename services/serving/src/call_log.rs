//! One log line per call, written outside of the call: a call queues its line and continues, and a thread writes the
//! lines of a few milliseconds together.

use std::io::{Write as _, stdout};
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::Serialize;
use tonic::Code;
use tracing_subscriber::filter::LevelFilter;

use crate::trace::Context;

/// How long a line waits for more lines.
const GATHER: Duration = Duration::from_millis(5);
/// The longest queue of lines; while it is full, calls wait.
const WAITING: usize = 4096;

static LOG: OnceLock<Log> = OnceLock::new();

/// A finished call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) ended: SystemTime,
    pub(crate) context: Arc<Context>,
    /// As in `package.Service/Method`.
    pub(crate) method: String,
    pub(crate) status: Code,
    pub(crate) took: Duration,
    /// Whether the line has the level DEBUG.
    pub(crate) quiet: bool,
}

#[derive(Debug)]
struct Log {
    level: LevelFilter,
    pending: Mutex<Pending>,
    /// There is a first line, the queue is full, or the log ends.
    came: Condvar,
    /// The queue has room again.
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    calls: Vec<Call>,
    ending: bool,
}

/// The writing thread; dropping this writes the queued lines.
#[derive(Debug)]
pub(crate) struct Writer(Option<JoinHandle<()>>);

/// Starts to log the process's calls; without this, they are not logged.
pub(crate) fn start(level: LevelFilter) -> anyhow::Result<Writer> {
    let log = LOG.get_or_init(|| Log {
        level,
        pending: Mutex::default(),
        came: Condvar::new(),
        taken: Condvar::new(),
    });
    let writer = thread::Builder::new().name("calls".to_owned());
    let writer = writer.spawn(|| log.write());
    Ok(Writer(Some(
        writer.context("failed to start the thread that logs calls")?,
    )))
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let (Some(log), Some(writer)) = (LOG.get(), self.0.take()) {
            log.pending().ending = true;
            log.came.notify_one();
            log.taken.notify_all();
            // A panic of the writer is already reported.
            let _ = writer.join();
        }
    }
}

/// Queues a call's line.
pub(crate) fn note(call: Call) {
    if let Some(log) = LOG.get() {
        log.note(call);
    }
}

impl Log {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: Call) {
        if call.level() > self.level {
            return;
        }
        let full = |pending: &mut Pending| pending.calls.len() >= WAITING && !pending.ending;
        let waited = self.taken.wait_while(self.pending(), full);
        let mut pending = waited.unwrap_or_else(PoisonError::into_inner);
        pending.calls.push(call);
        if matches!(pending.calls.len(), 1 | WAITING) {
            self.came.notify_one();
        }
    }

    /// Waits for calls, and a moment for more calls; returns whether they are the last ones.
    fn next(&self) -> (Vec<Call>, bool) {
        let none = |pending: &mut Pending| pending.calls.is_empty() && !pending.ending;
        let few = |pending: &mut Pending| pending.calls.len() < WAITING && !pending.ending;
        let first = self.came.wait_while(self.pending(), none);
        let first = first.unwrap_or_else(PoisonError::into_inner);
        let waited = self.came.wait_timeout_while(first, GATHER, few);
        let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.taken.notify_all();
        (take(&mut pending.calls), pending.ending)
    }

    fn write(&self) {
        let mut lines = Vec::new();
        loop {
            let (calls, ending) = self.next();
            for call in &calls {
                call.write(&mut lines);
            }
            // There is nowhere to report that stdout is closed.
            let _ = stdout().write_all(&lines);
            lines.clear();
            if ending {
                return;
            }
        }
    }
}

/// A line with the same fields as the process's other lines.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    message: &'a str,
    service: &'a str,
    method: &'a str,
    status: String,
    milliseconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    trace_id: &'a str,
    span_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<&'a str>,
    target: &'a str,
}

impl Call {
    fn level(&self) -> LevelFilter {
        match self.quiet {
            true => LevelFilter::DEBUG,
            false => LevelFilter::INFO,
        }
    }

    fn write(&self, lines: &mut Vec<u8>) {
        let context = &self.context;
        let line = Line {
            timestamp: timestamp(self.ended),
            level: if self.quiet { "DEBUG" } else { "INFO" },
            message: "rpc",
            service: &context.service,
            method: &self.method,
            status: format!("{:?}", self.status),
            milliseconds: self.took.as_secs_f64() * 1e3,
            caller: context.caller.as_deref(),
            trace_id: &context.trace_id,
            span_id: &context.span_id,
            parent_id: context.parent_id.as_deref(),
            target: module_path!(),
        };
        serde_json::to_writer(&mut *lines, &line).expect("text and numbers are JSON");
        lines.push(b'\n');
    }
}

/// RFC 3339 with microseconds, in UTC.
fn timestamp(time: SystemTime) -> String {
    // A clock's time is within the calendar's years.
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_called_what_and_how_it_ended() {
        const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut context = Context::begin("database-server".into(), Some(TRACEPARENT));
        context.caller = Some("web-server".to_owned());
        let call = Call {
            ended: SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_039_051_749_117),
            context: context.into(),
            method: "database.DatabaseService/Create".to_owned(),
            status: Code::NotFound,
            took: Duration::from_micros(9_500),
            quiet: false,
        };
        let mut lines = Vec::new();
        call.write(&mut lines);
        let mut line: serde_json::Value = serde_json::from_slice(&lines).unwrap();
        assert!(line["span_id"].take().is_string());
        assert_eq!(
            line,
            serde_json::json!({
                "timestamp": "2025-11-25T02:50:51.749117Z",
                "level": "INFO",
                "message": "rpc",
                "service": "database-server",
                "method": "database.DatabaseService/Create",
                "status": "NotFound",
                "milliseconds": 9.5,
                "caller": "web-server",
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "span_id": null,
                "parent_id": "00f067aa0ba902b7",
                "target": "serving::call_log",
            })
        );
    }
}
