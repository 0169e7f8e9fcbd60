//! The layer around every RPC: establishes its trace context and writes one log line when it is over.
//!
//! An RPC ends with its response body: at the trailers, or when the caller disconnects.

use std::fmt::Display;
use std::future::Future;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use std::time::{Instant, SystemTime};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Code;
use tower::{Layer, Service};

use crate::activity::Activity;
use crate::call_log::{self, Call};
use crate::callers;
use crate::export;
use crate::metrics::Metrics;
use crate::trace::Context;

/// How the content type of each RPC's answer begins.
const GRPC: &[u8] = b"application/grpc";

/// Wraps a server's routes.
#[derive(Debug, Clone)]
pub(crate) struct Observe {
    pub(crate) service: Arc<str>,
    pub(crate) metrics: Metrics,
    pub(crate) activity: Activity,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            service: self.service.clone(),
            metrics: self.metrics.clone(),
            activity: self.activity.clone(),
            inner,
        }
    }
}

/// The wrapped routes.
#[derive(Debug, Clone)]
pub(crate) struct Observed<S> {
    service: Arc<str>,
    metrics: Metrics,
    activity: Activity,
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for Observed<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<ObservedBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(poller)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let mut context = Context::of_request(self.service.clone(), request.headers());
        context.caller = callers::caller(&request);
        let context = Arc::new(context);
        let mut line = Line {
            method: request.uri().path().trim_start_matches('/').to_owned(),
            context: context.clone(),
            metrics: self.metrics.clone(),
            began: Instant::now(),
            status: Some(Code::Cancelled),
            _call: self.activity.call(),
        };
        let response = context.clone().enter(|| self.inner.call(request));
        Box::pin(context.scope(async move {
            let response = response.await?;
            line.begin(response.headers());
            Ok(response.map(|inner| ObservedBody { inner, line }))
        }))
    }
}

pin_project! {
    /// A response body that knows which RPC it ends.
    pub(crate) struct ObservedBody<B> {
        #[pin]
        inner: B,
        line: Line,
    }
}

impl<B: Body> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let context = this.line.context.clone();
        let frame = ready!(context.enter(|| this.inner.poll_frame(poller)));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.line.note(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The log line of one RPC, left to be written when dropped.
#[derive(Debug)]
struct Line {
    method: String,
    context: Arc<Context>,
    metrics: Metrics,
    began: Instant,
    status: Option<Code>,
    _call: TaskTrackerToken,
}

impl Line {
    fn begin(&mut self, headers: &HeaderMap) {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind.is_some_and(|kind| kind.starts_with(GRPC)) {
            self.note(headers);
        } else {
            // The answer of another protocol, which is no RPC.
            self.status = None;
        }
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.status = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(status) = self.status.take() else {
            return;
        };
        let took = self.began.elapsed();
        self.metrics.rpc(&self.method, status, took);
        let method = take(&mut self.method);
        let quiet = method.starts_with("grpc.") && status == Code::Ok;
        if !quiet {
            let caller = self.context.caller.as_deref();
            let attributes: [(_, &dyn Display); 3] = [
                ("rpc.system", &"grpc"),
                ("rpc.grpc.status_code", &i32::from(status)),
                ("enduser.id", &caller.unwrap_or_default()),
            ];
            export::span(
                &self.context,
                &method,
                took,
                &attributes,
                status != Code::Ok,
            );
        }
        call_log::note(Call {
            ended: SystemTime::now(),
            context: self.context.clone(),
            method,
            status,
            took,
            quiet,
        });
    }
}
