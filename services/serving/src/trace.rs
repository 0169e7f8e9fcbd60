//! The W3C trace context of the request being handled, the service that handles it, and who asked for it.
//!
//! It travels in a task-local; a task that is spawned while a request is handled takes it along with
//! [`Context::scope`]. Calls made meanwhile carry this request's span as their parent. Source of the format: W3C Trace
//! Context, level 1.

use std::future::Future;
use std::sync::Arc;

use http::HeaderMap;
use uuid::Uuid;

/// The header that carries the trace and the caller's span.
pub const TRACEPARENT: &str = "traceparent";
/// The header that carries what tracing systems add, which is passed on as it came.
pub const TRACESTATE: &str = "tracestate";

/// What a vendor's state may be at least, says the W3C; longer ones are dropped whole.
const LONGEST_STATE: usize = 512;
const SAMPLED: u8 = 1;
const SPAN_DIGITS: usize = 16;

tokio::task_local! {
    static CURRENT: Context;
}

/// Who handles which trace, for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub service: Arc<str>,
    /// 32 lower-case hexadecimal digits.
    pub trace_id: Arc<str>,
    /// 16 lower-case hexadecimal digits.
    pub span_id: Arc<str>,
    /// The span of whoever called; none at a trace's beginning.
    pub parent_id: Option<Arc<str>>,
    /// The header's flags; bit 0 says that the trace is recorded.
    pub flags: u8,
    pub state: Option<Arc<str>>,
    /// The name on the caller's certificate.
    pub caller: Option<Arc<str>>,
}

impl Context {
    /// Continues the trace of a `traceparent` header, or begins one where there is none or it is malformed.
    pub fn begin(service: Arc<str>, traceparent: Option<&str>) -> Self {
        let parent = traceparent.and_then(Parent::parse);
        Self {
            service,
            trace_id: parent
                .as_ref()
                .map_or_else(|| new_id()[..].into(), |parent| parent.trace_id.into()),
            span_id: new_id()[..SPAN_DIGITS].into(),
            flags: parent.as_ref().map_or(SAMPLED, |parent| parent.flags),
            parent_id: parent.map(|parent| parent.span_id.into()),
            state: None,
            caller: None,
        }
    }

    /// Continues the trace that a request's headers carry, with its state.
    pub fn of_request(service: Arc<str>, headers: &HeaderMap) -> Self {
        let text = |name| {
            let values = headers.get_all(name).iter();
            let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
            (!values.is_empty()).then(|| values.join(","))
        };
        let mut context = Self::begin(service, text(TRACEPARENT).as_deref());
        // A state belongs to the parent that it came with.
        if context.parent_id.is_some() {
            context.state = text(TRACESTATE)
                .filter(|state| state.len() <= LONGEST_STATE)
                .map(Into::into);
        }
        context
    }

    /// Whether the trace is recorded, as its beginner decided.
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

/// A trace's id; a span's is its beginning.
fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A well-formed `traceparent`.
struct Parent<'a> {
    trace_id: &'a str,
    span_id: &'a str,
    flags: u8,
}

impl<'a> Parent<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = hex(version, 2) && hex(trace_id, 32) && hex(span_id, 16) && hex(flags, 2);
        let zero = |id: &str| id.bytes().all(|digit| digit == b'0');
        // A later version may add parts; this one has none.
        let complete = version != "00" || parts.next().is_none();
        let usable =
            well_formed && complete && version != "ff" && !zero(trace_id) && !zero(span_id);
        usable.then_some(Self {
            trace_id,
            span_id,
            flags: u8::from_str_radix(flags, 16).ok()?,
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
