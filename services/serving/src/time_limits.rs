//! The time limit of a call, whatever deadline its caller sets: until the response begins.
//!
//! A stream of responses has no limit of its own: it ends at its caller's deadline, with the caller, or when the service
//! drains.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use anyhow::Context as _;
use http::{Request, Response};
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::error::Problem;
use crate::stream_deadline::{deadline, end_at};

/// For calls of one request.
const UNARY: Duration = Duration::from_secs(60);
/// For calls whose caller streams.
const STREAM: Duration = Duration::from_secs(600);

/// Limits calls by the kind of their method, which the protocols' descriptors give.
#[derive(Debug, Clone)]
pub(crate) struct TimeLimits {
    /// Paths of methods whose caller streams.
    streaming: Arc<BTreeSet<String>>,
    /// Paths of methods that answer with a stream.
    streamed: Arc<BTreeSet<String>>,
    unary: Duration,
    stream: Duration,
}

impl TimeLimits {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let set = FileDescriptorSet::decode(pspd_proto::DESCRIPTORS)
            .context("failed to read the protocols' descriptors")?;
        let paths = |streams: fn(&MethodDescriptorProto) -> bool| {
            let services = set.file.iter().flat_map(|file| {
                let services = file.service.iter();
                services.map(|service| (file.package(), service))
            });
            let paths = services.flat_map(|(package, service)| {
                let methods = service.method.iter().filter(|method| streams(method));
                methods.map(move |method| {
                    let (service, name) = (service.name(), method.name());
                    format!("/{package}.{service}/{name}")
                })
            });
            Arc::new(paths.collect())
        };
        Ok(Self {
            streaming: paths(MethodDescriptorProto::client_streaming),
            streamed: paths(MethodDescriptorProto::server_streaming),
            unary: UNARY,
            stream: STREAM,
        })
    }

    /// Streams of another protocol count as unary calls, except reflection, whose response begins immediately.
    fn limit(&self, path: &str) -> Duration {
        if self.streaming.contains(path) {
            self.stream
        } else {
            self.unary
        }
    }
}

impl<S> Layer<S> for TimeLimits {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            limits: self.clone(),
            inner,
        }
    }
}

/// The limited routes.
#[derive(Debug, Clone)]
pub(crate) struct Bounded<S> {
    limits: TimeLimits,
    inner: S,
}

impl<S, Q> Service<Request<Q>> for Bounded<S>
where
    S: Service<Request<Q>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(poller)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let path = request.uri().path();
        let limit = self.limits.limit(path);
        let streamed = self.limits.streamed.contains(path);
        let deadline = deadline(request.headers()).filter(|_| streamed);
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => Ok(match deadline {
                    Some(deadline) => end_at(deadline, answer?),
                    None => answer?,
                }),
                Err(_) => {
                    let message = format!("the call took longer than {} s", limit.as_secs_f32());
                    let problem = Problem::new(Code::DeadlineExceeded, "TOO_SLOW", message);
                    Ok(Status::from(problem).into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_call_without_an_answer_ends_with_a_reason() {
        let stuck = tower::service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
        });
        let (unary, stream) = (Duration::from_millis(20), Duration::from_millis(200));
        let limits = TimeLimits {
            unary,
            stream,
            ..TimeLimits::new().unwrap()
        };
        let mut bounded = limits.layer(stuck);
        for (path, limit) in [
            ("/database.DatabaseService/Read", unary),
            ("/ai.AiService/TrainModel", stream),
            ("/business.BusinessService/Ingest", stream),
        ] {
            let began = Instant::now();
            let request = Request::builder().uri(path).body(()).unwrap();
            let answer = bounded.call(request).await.unwrap();
            assert!(began.elapsed() >= limit, "{path}");
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{path}");
            assert_eq!(crate::error::describe(&status).reason, "TOO_SLOW");
        }
    }
}
