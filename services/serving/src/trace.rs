//! The W3C trace context of the current request, the service that handles it, and the caller.
//!
//! It is in a task-local; a task that is spawned for a request takes it along with [`Context::scope`]. Calls made for
//! the request have its span as their parent. Source of the format: W3C Trace Context, level 1.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use http::HeaderMap;
use uuid::Uuid;

/// The header that carries the trace and the caller's span.
pub const TRACEPARENT: &str = "traceparent";
/// The header with the data of tracing systems, which is passed on unchanged.
pub const TRACESTATE: &str = "tracestate";

/// The length that W3C requires implementations to support; longer states are dropped as a whole.
const LONGEST_STATE: usize = 512;
const SAMPLED: u8 = 1;

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// Lower-case hexadecimal digits of a fixed length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Id<const DIGITS: usize>([u8; DIGITS]);

pub type TraceId = Id<32>;
pub type SpanId = Id<16>;

impl<const DIGITS: usize> Id<DIGITS> {
    /// A random id.
    fn new() -> Self {
        let mut digits = Uuid::encode_buffer();
        Uuid::new_v4().simple().encode_lower(&mut digits);
        Self(std::array::from_fn(|place| digits[place]))
    }

    /// A received id; W3C forbids an id of zeros.
    fn parse(text: &str) -> Option<Self> {
        let usable = hex(text, DIGITS) && text.bytes().any(|digit| digit != b'0');
        text.as_bytes().try_into().ok().filter(|_| usable).map(Self)
    }
}

impl<const DIGITS: usize> Deref for Id<DIGITS> {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

impl<const DIGITS: usize> fmt::Display for Id<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl<const DIGITS: usize> fmt::Debug for Id<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// The trace of a request, the service that handles it, and its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub service: Arc<str>,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The caller's span; none at the beginning of a trace.
    pub parent_id: Option<SpanId>,
    /// The header's flags; bit 0 says that the trace is recorded.
    pub flags: u8,
    pub state: Option<String>,
    /// The name on the caller's certificate.
    pub caller: Option<String>,
}

impl Context {
    /// Continues the trace of a `traceparent` header, or begins a trace if the header is missing or malformed.
    pub fn begin(service: Arc<str>, traceparent: Option<&str>) -> Self {
        let parent = traceparent.and_then(Parent::parse);
        Self {
            service,
            trace_id: parent.map_or_else(Id::new, |parent| parent.trace_id),
            span_id: Id::new(),
            flags: parent.map_or(SAMPLED, |parent| parent.flags),
            parent_id: parent.map(|parent| parent.span_id),
            state: None,
            caller: None,
        }
    }

    /// Continues the trace of a request's headers, with its state.
    pub fn of_request(service: Arc<str>, headers: &HeaderMap) -> Self {
        let texts = |name| {
            let values = headers.get_all(name).into_iter();
            values.filter_map(|value| value.to_str().ok())
        };
        let mut parents = texts(TRACEPARENT);
        let only = parents.next().filter(|_| parents.next().is_none());
        let mut context = Self::begin(service, only);
        // A state belongs to the parent that it came with.
        if context.parent_id.is_some() {
            let state = texts(TRACESTATE).collect::<Vec<_>>().join(",");
            context.state =
                Some(state).filter(|state| !state.is_empty() && state.len() <= LONGEST_STATE);
        }
        context
    }

    /// Whether the trace is recorded, which its first service decides.
    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The header's value for calls made on behalf of this request.
    pub fn traceparent(&self) -> String {
        format!(
            "00-{}-{}-{:02x}",
            self.trace_id,
            self.span_id,
            self.flags & SAMPLED
        )
    }

    /// Runs a future within this context.
    pub fn scope<F: Future>(self: Arc<Self>, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Runs a function within this context.
    pub fn enter<T>(self: Arc<Self>, function: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, function)
    }
}

/// The context of the current request; outside of a request, a new trace of an unnamed service.
pub fn current() -> Arc<Context> {
    CURRENT
        .try_with(Clone::clone)
        .unwrap_or_else(|_| Context::begin("unknown".into(), None).into())
}

/// A well-formed `traceparent`.
#[derive(Clone, Copy)]
struct Parent {
    trace_id: TraceId,
    span_id: SpanId,
    flags: u8,
}

impl Parent {
    fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may add parts; this version has none.
        let complete = version != "00" || parts.next().is_none();
        let usable = hex(version, 2) && complete && version != "ff" && hex(flags, 2);
        let flags = u8::from_str_radix(flags, 16).ok().filter(|_| usable)?;
        Some(Self {
            trace_id: Id::parse(trace_id)?,
            span_id: Id::parse(span_id)?,
            flags,
        })
    }
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

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn only_well_formed_headers_continue_a_trace() {
        let table = [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-00-more"), true),
            (format!("00-{TRACE}-{SPAN}-01-more"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-4bf92f35-{SPAN}-01"), false),
            (String::new(), false),
        ];
        for (header, continued) in table {
            let context = Context::begin("service".into(), Some(&header));
            assert_eq!(*context.trace_id == *TRACE, continued, "{header}");
            assert_eq!(
                context.parent_id.as_deref() == Some(SPAN),
                continued,
                "{header}"
            );
        }
    }

    #[test]
    fn flags_and_state_are_passed_on() {
        let mut headers = HeaderMap::new();
        let parent = format!("00-{TRACE}-{SPAN}-00");
        headers.append(TRACESTATE, "a=1".parse().unwrap());
        headers.append(TRACESTATE, "b=2".parse().unwrap());
        assert_eq!(Context::of_request("s".into(), &headers).state, None);
        headers.insert(TRACEPARENT, parent.parse().unwrap());
        let context = Context::of_request("s".into(), &headers);
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
        assert!(!context.sampled());
        assert_eq!(
            context.traceparent(),
            format!("00-{TRACE}-{}-00", context.span_id)
        );
    }
}
