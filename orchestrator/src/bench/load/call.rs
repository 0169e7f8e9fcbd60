//! How a call ended that did not succeed.

use std::fmt;
use std::time::Duration;

use tonic::Code;

/// How a call ended that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// A code of gRPC other than OK.
    Grpc(i32),
    /// A status of HTTP.
    Http(u16),
    /// No answer within the time limit.
    TimedOut,
    /// No connection could be opened.
    NotConnected,
    /// The connection or its stream ended during the call.
    Lost,
    /// The values of the placeholders do not fit the message.
    Payload,
}

/// The codes of gRPC by number: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Grpc(code) => {
                let name = usize::try_from(*code).ok().and_then(|code| CODES.get(code));
                match name {
                    Some(name) => f.write_str(name),
                    None => write!(f, "code {code}"),
                }
            }
            Status::Http(status) => write!(f, "{status}"),
            Status::TimedOut => f.write_str("no answer in time"),
            Status::NotConnected => f.write_str("no connection"),
            Status::Lost => f.write_str("connection lost"),
            Status::Payload => f.write_str("invalid payload"),
        }
    }
}

impl Status {
    /// Whether the same call is rejected each time.
    pub(super) fn is_refusal(self) -> bool {
        match self {
            Status::Grpc(code) => matches!(
                Code::from_i32(code),
                Code::InvalidArgument
                    | Code::PermissionDenied
                    | Code::Unimplemented
                    | Code::Unauthenticated
            ),
            Status::Http(status) => matches!(status, 400..=499) && !matches!(status, 408 | 429),
            _ => false,
        }
    }
}

/// A call that did not succeed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub(super) fn new(status: Status, message: impl fmt::Display) -> Failure {
        Failure {
            status,
            message: message.to_string(),
        }
    }

    pub(super) fn timed_out(limit: Duration) -> Failure {
        let limit = limit.as_secs_f64();
        Failure::new(Status::TimedOut, format!("no answer within {limit} s"))
    }
}
