//! The W3C trace context of the request being handled, and the name of the service that handles it.
//!
//! It travels in a task-local; a task that is spawned while a request is handled takes it along with
//! [`Context::scope`]. Source of the format: W3C Trace Context, level 1.

use std::future::Future;
use std::sync::Arc;

use uuid::Uuid;

/// The header that carries the context.
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Context;
}

/// Who handles which trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub service: Arc<str>,
    /// 32 lower-case hexadecimal digits.
    pub trace_id: String,
    /// 16 lower-case hexadecimal digits.
    pub span_id: String,
}

impl Context {
    /// Continues the trace of a `traceparent` header, or begins one where there is none or it is malformed.
    pub fn begin(service: Arc<str>, traceparent: Option<&str>) -> Self {
        let trace_id = traceparent
            .and_then(trace_id)
            .map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned);
        Self {
            service,
            trace_id,
            span_id: span_id(),
        }
    }

    /// The context of a call made on behalf of this one.
    pub fn child(&self) -> Self {
        Self {
            span_id: span_id(),
            ..self.clone()
        }
    }

    /// The header's value, marked as sampled.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    /// Runs a future within this context.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Runs a function within this context.
    pub fn enter<T>(self, function: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, function)
    }
}

/// The context of the request being handled; outside of any, a new trace of an unnamed service.
pub fn current() -> Context {
    CURRENT
        .try_with(Clone::clone)
        .unwrap_or_else(|_| Context::begin("unknown".into(), None))
}

fn span_id() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(16);
    id
}

fn trace_id(header: &str) -> Option<&str> {
    let mut parts = header.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    (well_formed && version != "ff" && !zero(trace) && !zero(span)).then_some(trace)
}

fn hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_headers_continue_a_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let table = [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                Some(trace),
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
                Some(trace),
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                None,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                None,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                None,
            ),
            (
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                None,
            ),
            ("00-4bf92f35-00f067aa0ba902b7-01", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(trace_id(header), expected, "{header}");
        }
    }
}
