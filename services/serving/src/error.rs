//! Errors as `google.rpc.Status` with details: always ErrorInfo (reason, domain, the service and the trace id),
//! and RetryInfo, BadRequest or ResourceInfo where they fit.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::trace;

/// The domain of all reasons that the services use.
pub const DOMAIN: &str = "pspd.internal";
/// ErrorInfo's metadata key of the service that failed.
pub const SERVICE: &str = "service";
/// ErrorInfo's metadata key of the trace id.
pub const TRACE_ID: &str = "trace_id";
/// ErrorInfo's metadata key of the dependency that failed.
pub const DEPENDENCY: &str = "dependency";

const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest text of an error, in bytes. A status is sent as metadata, of which clients accept 8 KiB at least, and texts
/// may quote what a caller sent.
const LONGEST: usize = 512;
/// What is left of the end of a longer text.
const END: usize = 128;
/// The longest list of names, in bytes.
const LONGEST_LIST: usize = 3700;

/// A failure being described; becomes a [`Status`].
#[derive(Debug)]
pub struct Problem {
    code: Code,
    message: String,
    reason: &'static str,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl Problem {
    /// Starts with the code, a reason in UPPER_SNAKE_CASE and a message for people.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let context = trace::current();
        let metadata = HashMap::from([
            (SERVICE.to_owned(), context.service.to_string()),
            (TRACE_ID.to_owned(), context.trace_id.to_string()),
        ]);
        Self {
            code,
            message: shortened(message.into()),
            reason,
            metadata,
            details: ErrorDetails::new(),
        }
    }

    /// Describes one invalid field of a request.
    pub fn invalid(field: &str, reason: &'static str, message: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::InvalidArgument, reason, message);
        let description = problem.message.clone();
        problem
            .details
            .add_bad_request_violation(field, description);
        problem
    }

    /// Describes a resource that does not exist.
    pub fn missing(
        kind: &str,
        name: &str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let mut problem = Self::new(Code::NotFound, reason, message);
        let description = problem.message.clone();
        problem
            .details
            .set_resource_info(kind, shortened(name.to_owned()), "", description);
        problem
    }

    /// Describes a failure inside the service; the cause is logged and not sent.
    pub fn internal(message: &str, cause: impl std::fmt::Display) -> Self {
        let context = trace::current();
        tracing::error!(trace_id = &*context.trace_id, span_id = &*context.span_id, %cause, "{message}");
        Self::new(Code::Internal, "INTERNAL", message)
    }

    /// Adds to ErrorInfo's metadata.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata
            .insert(key.to_owned(), shortened(value.into()));
        self
    }

    /// Adds as many names as fit to ErrorInfo's metadata, separated by `,`.
    pub fn with_names(mut self, key: &str, names: &[String]) -> Self {
        let mut list = String::new();
        for name in names {
            let comma = if list.is_empty() { "" } else { "," };
            if list.len() + comma.len() + name.len() > LONGEST_LIST {
                break;
            }
            list.extend([comma, name]);
        }
        self.metadata.insert(key.to_owned(), list);
        self
    }

    /// Reports to the caller when to retry.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }
}

impl From<Problem> for Status {
    fn from(mut problem: Problem) -> Self {
        problem
            .details
            .set_error_info(problem.reason, DOMAIN, problem.metadata);
        Status::with_error_details(problem.code, problem.message, problem.details)
    }
}

/// A text without its middle, if it is too long.
fn shortened(text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let start = &text[..text.floor_char_boundary(LONGEST - END)];
    let end = &text[text.ceil_char_boundary(text.len() - END)..];
    format!("{start}…{end}")
}

/// Passes on the error of a call to another service: unchanged if that service described it; otherwise (the service
/// was not reached, or was too slow) with a description and RetryInfo from here.
pub fn from_dependency(status: Status, dependency: &str) -> Status {
    if status.get_details_error_info().is_some() {
        return Status::with_details(
            status.code(),
            status.message(),
            status.details().to_vec().into(),
        );
    }
    let (code, reason, what) = match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => (
            Code::DeadlineExceeded,
            "DEPENDENCY_TOO_SLOW",
            "did not answer in time",
        ),
        Code::Unavailable | Code::Unknown | Code::Internal => (
            Code::Unavailable,
            "DEPENDENCY_UNREACHABLE",
            "is unreachable",
        ),
        code => (code, "DEPENDENCY_FAILED", "failed"),
    };
    let message = format!("`{dependency}` {what}: {}", status.message());
    Problem::new(code, reason, message)
        .with(DEPENDENCY, dependency)
        .retry_after(RETRY_AFTER)
        .into()
}

/// The parts of a status that an edge returns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Described {
    pub reason: String,
    pub service: String,
    pub trace_id: String,
    pub retry_after: Option<Duration>,
}

/// Reads the details that [`Problem`] wrote; empty strings if another kind of server answered.
pub fn describe(status: &Status) -> Described {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return Described::default();
    };
    let metadata = |key| info.metadata.get(key).cloned().unwrap_or_default();
    Described {
        reason: info.reason.clone(),
        service: metadata(SERVICE),
        trace_id: metadata(TRACE_ID),
        retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients of gRPC accept by default. Source: grpc-core, `GRPC_ARG_MAX_METADATA_SIZE`.
    const ACCEPTED: usize = 8 * 1024;

    fn size(problem: Problem) -> usize {
        let answer = Status::from(problem).into_http::<()>();
        let fields = answer.headers().iter();
        fields
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum()
    }

    #[test]
    fn clients_accept_errors_that_quote_long_texts() {
        for sent in ["x", "é", "\n", "😀"] {
            let sent = sent.repeat(1 << 20);
            let message = format!("document `{sent}` does not exist");
            let missing = Problem::missing("document", &sent, "MISSING", &*message);
            assert!(missing.message.starts_with("document `"), "{missing:?}");
            assert!(missing.message.ends_with("` does not exist"), "{missing:?}");
            assert!(size(missing) < ACCEPTED);
            let invalid = Problem::invalid("query", "INVALID", &*message);
            assert!(size(invalid.with("operator", &*sent)) < ACCEPTED);
        }
        let names: Vec<String> = (0..1000).map(|n| format!("{n:036}")).collect();
        let damaged = Problem::new(Code::DataLoss, "DAMAGED", names.join(","));
        let damaged = damaged.with_names("documents", &names);
        assert_eq!(damaged.metadata["documents"].split(',').count(), 100);
        assert!(size(damaged) < ACCEPTED);
    }
}
