//! A client of one other service: limits, retries and errors of its calls.
//!
//! Every call ends within its limit and the caller's deadline, and sends the remaining time to the backend. Dropping
//! the future of a call cancels it at the backend.

use std::future::Future;
use std::time::Duration;

use pspd_proto::business::BackendState;
use serving::channel::{deadline, retry};
use serving::{Dependency, Link, error};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::deadline::Deadline;

const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// Another service, by the client that calls it.
#[derive(Debug, Clone)]
pub(crate) struct Backend<C> {
    pub(crate) name: String,
    client: C,
    health: HealthClient<Link>,
    pub(crate) deadline: Deadline,
}

impl<C: Clone> Backend<C> {
    /// Opens a channel of its own, so that one slow backend does not delay calls to others.
    pub(crate) fn new(dependency: &Dependency, client: impl FnOnce(Link) -> C) -> Self {
        let link = dependency.connect();
        Self {
            name: dependency.name.clone(),
            client: client(link.clone()),
            health: HealthClient::new(link),
            deadline: Deadline::default(),
        }
    }

    /// Calls once: for calls that must not be repeated.
    pub(crate) async fn once<M, R, F>(
        &self,
        limit: Duration,
        message: M,
        call: impl FnOnce(C, Request<M>) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let end = self.deadline.end(limit);
        let call = call(self.client.clone(), deadline(message, left(end)));
        self.ended(end, call).await
    }

    /// Makes an idempotent call, and repeats it with growing pauses while the backend is unavailable.
    pub(crate) async fn repeatedly<M, R, F>(
        &self,
        limit: Duration,
        message: M,
        call: impl Fn(C, Request<M>) -> F,
    ) -> Result<R, Status>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let end = self.deadline.end(limit);
        let attempts = retry(|| call(self.client.clone(), deadline(message.clone(), left(end))));
        self.ended(end, attempts).await
    }

    /// Starts a streaming response within `limit`; the stream itself is limited by the caller's deadline only.
    pub(crate) async fn streamed<M, R, F>(
        &self,
        limit: Duration,
        message: M,
        call: impl Fn(C, Request<M>) -> F,
    ) -> Result<R, Status>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempts = retry(|| {
            let mut request = Request::new(message.clone());
            if let Some(left) = self.deadline.left() {
                request.set_timeout(left);
            }
            call(self.client.clone(), request)
        });
        self.ended(self.deadline.end(limit), attempts).await
    }

    /// Waits for the next part of a response, for at most `limit`.
    pub(crate) async fn part<T>(
        &self,
        limit: Duration,
        part: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let outcome = timeout_at(self.deadline.end(limit), part).await;
        outcome
            .unwrap_or_else(|_| Err(late()))
            .map_err(|status| self.failed(status))
    }

    async fn ended<R>(
        &self,
        end: Instant,
        call: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Result<R, Status> {
        let outcome = timeout_at(end, call).await;
        outcome
            .unwrap_or_else(|_| Err(late()))
            .map(Response::into_inner)
            .map_err(|status| self.failed(status))
    }

    fn failed(&self, status: Status) -> Status {
        error::from_dependency(status, &self.name)
    }

    /// The state of `service` by the backend's health service, and how long the answer took.
    pub(crate) async fn state(&self, service: &str) -> BackendState {
        let began = Instant::now();
        let end = self.deadline.end(HEALTH_LIMIT);
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut health = self.health.clone();
        let answer = timeout_at(end, health.check(deadline(request, left(end)))).await;
        let (serving, detail) = match answer {
            Ok(Ok(response)) => {
                let status = response.into_inner().status();
                (
                    status as i32 == ServingStatus::Serving as i32,
                    status.as_str_name().to_owned(),
                )
            }
            Ok(Err(status)) => (false, status.message().to_owned()),
            Err(_) => (false, "no answer in time".to_owned()),
        };
        BackendState {
            name: self.name.clone(),
            serving,
            detail,
            milliseconds: began.elapsed().as_secs_f32() * 1e3,
        }
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

fn late() -> Status {
    Status::deadline_exceeded("no answer in time")
}
