//! Errors of the gRPC library itself: it does not describe them, so this layer does, like all others.
//!
//! It also refuses metadata that is too large, which the library would answer with a status of HTTP.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::Either;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::error::Problem;

/// The most metadata of a call, in bytes, as HTTP/2 counts them.
const METADATA_LIMIT: usize = 16 * 1024;
/// What HTTP/2 counts for each field besides its text. Source: RFC 9113, 6.5.2.
const FIELD: usize = 32;
/// What the server reads at most: enough to answer calls with too much.
pub(crate) const READ_LIMIT: u32 = 256 * 1024;

/// How the library begins that a message is not what its method or its compression says.
const UNREADABLE: [&str; 2] = ["failed to decode", "Error decompressing"];

/// Describes errors of the routes below it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Describe;

impl<S> Layer<S> for Describe {
    type Service = Described<S>;

    fn layer(&self, inner: S) -> Described<S> {
        Described(inner)
    }
}

/// The described routes.
#[derive(Debug, Clone)]
pub(crate) struct Described<S>(S);

impl<S, Q> Service<Request<Q>> for Described<S>
where
    S: Service<Request<Q>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<
        Ready<Result<Self::Response, S::Error>>,
        Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        if size(request.headers()) > METADATA_LIMIT {
            let message = format!("the call has more than {METADATA_LIMIT} bytes of metadata");
            let problem = Problem::new(Code::ResourceExhausted, "METADATA_TOO_LARGE", message)
                .with("limit", METADATA_LIMIT.to_string());
            return Either::Left(ready(Ok(Status::from(problem).into_http())));
        }
        let path = request.uri().path().to_owned();
        let answer = self.0.call(request);
        Either::Right(Box::pin(async move {
            let response = answer.await?;
            Ok(match description(response.headers(), &path) {
                Some(problem) => Status::from(problem).into_http(),
                None => response,
            })
        }))
    }
}

fn size(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD)
        .sum()
}

/// What an answer means that is an error without a description.
fn description(headers: &HeaderMap, path: &str) -> Option<Problem> {
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    match status.code() {
        Code::Unimplemented if status.message().is_empty() => {
            let message = format!("there is no method `{path}`");
            Some(Problem::new(Code::Unimplemented, "METHOD_UNKNOWN", message))
        }
        Code::Unimplemented => {
            let message = status.message();
            Some(Problem::new(Code::Unimplemented, "NOT_SUPPORTED", message))
        }
        Code::Internal
            if UNREADABLE
                .iter()
                .any(|start| status.message().starts_with(start)) =>
        {
            let message = format!("the message is not valid: {}", status.message());
            let code = Code::InvalidArgument;
            Some(Problem::new(code, "MESSAGE_MALFORMED", message))
        }
        _ => None,
    }
}
