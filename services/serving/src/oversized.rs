//! Messages that are too large to read: gRPC would return OUT_OF_RANGE, the services return INVALID_ARGUMENT with the
//! same details as every other rejection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::MESSAGE_LIMIT;
use crate::error::Problem;

/// How the gRPC library begins that a message became too large when it was decompressed.
const DECOMPRESSED: &str = "Error decompressing: size limit";

/// A generated server whose responses are checked.
#[derive(Debug, Clone)]
pub(crate) struct Oversized<S>(pub(crate) S);

impl<S: NamedService> NamedService for Oversized<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> tower::Service<Request<Body>> for Oversized<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // A rejection without a body has its status in the headers.
            match Status::from_header_map(response.headers()) {
                Some(status) if is_oversized(&status) => Ok(refusal().into_http()),
                _ => Ok(response),
            }
        })
    }
}

/// The error for a message in a stream of requests, for calls whose response may begin before that message arrives.
pub fn refuse_oversized(status: Status) -> Status {
    if is_oversized(&status) {
        refusal()
    } else {
        status
    }
}

/// What the gRPC library says of a message that is too large, as it was sent or after decompression.
fn is_oversized(status: &Status) -> bool {
    match status.code() {
        Code::OutOfRange => true,
        Code::ResourceExhausted => status.message().starts_with(DECOMPRESSED),
        _ => false,
    }
}

fn refusal() -> Status {
    let message = format!("the message is larger than {MESSAGE_LIMIT} bytes");
    Problem::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", message)
        .with("limit", MESSAGE_LIMIT.to_string())
        .into()
}
