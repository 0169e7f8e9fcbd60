//! Health by `grpc.health.v1`, for each service's name and for the whole (the empty name).
//!
//! ```text
//! NOT_SERVING --every dependency SERVING--> SERVING --a dependency fails two probes, or draining--> NOT_SERVING
//! ```
//! Health is advice for clients that choose a server, and for `pspd up`. Calls to a service that is NOT_SERVING are
//! still answered if they do not need the dependency.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use pspd_proto::health::health_server::{self, HealthServer};
use pspd_proto::health::{HealthListRequest, HealthListResponse};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::Health as LibraryHealth;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::channel::{Dependency, Link, deadline};

/// Between two probes of the dependencies.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while a dependency is unavailable.
const RETRY: Duration = Duration::from_millis(200);
/// How long a dependency may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// One failed probe is not enough: a dependency that is being redeployed is unavailable for a moment.
const FAILED_PROBES: u32 = 2;
/// How long health reports NOT_SERVING before its watchers' streams end.
const NOTICE: Duration = Duration::from_millis(200);

/// A gRPC service of another process that this process needs for its work.
#[derive(Debug)]
pub(crate) struct Need {
    name: String,
    service: &'static str,
    health: HealthClient<Link>,
}

impl Need {
    pub(crate) fn new(dependency: &Dependency, service: &'static str) -> Self {
        Self {
            name: dependency.name.clone(),
            service,
            health: HealthClient::new(dependency.connect()),
        }
    }

    async fn is_met(&self) -> bool {
        let request = HealthCheckRequest {
            service: self.service.to_owned(),
        };
        let mut health = self.health.clone();
        let check = health.check(deadline(request, ANSWER));
        match tokio::time::timeout(ANSWER, check).await {
            Ok(Ok(answer)) => answer.get_ref().status == ServingStatus::Serving as i32,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

/// Returns why the process itself cannot serve, if so.
pub(crate) type Fault = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The health of this process's services.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

/// The library's health service, and `List`, which it does not have.
#[derive(Debug)]
pub(crate) struct Listed {
    inner: HealthService,
    names: Vec<&'static str>,
}

#[tonic::async_trait]
impl health_server::Health for Listed {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.inner.check(request).await
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let mut statuses = HashMap::new();
        for &name in &self.names {
            let service = name.to_owned();
            let request = Request::new(HealthCheckRequest { service });
            // While the process drains, the library forgets its services.
            if let Ok(answer) = self.inner.check(request).await {
                statuses.insert(name.to_owned(), answer.into_inner());
            }
        }
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = <HealthService as LibraryHealth>::WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.inner.watch(request).await
    }
}

impl Health {
    /// Starts with NOT_SERVING if there are dependencies.
    pub(crate) async fn new(mut names: Vec<&'static str>, needs: &[Need]) -> Self {
        names.push("");
        let reporter = HealthReporter::new();
        let health = Self { reporter, names };
        health.report(needs.is_empty()).await;
        health
    }

    /// The service that answers for it.
    pub(crate) fn server(&self) -> HealthServer<Listed> {
        HealthServer::new(Listed {
            inner: HealthService::from_health_reporter(self.reporter.clone()),
            names: self.names.clone(),
        })
    }

    async fn report(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Follows the dependencies and the process's own faults until `shutdown`; then reports NOT_SERVING, and returns when
    /// watchers could notice it. Ends the streams of health watchers, which would keep their connections open.
    pub(crate) async fn follow(
        self,
        needs: Vec<Need>,
        faults: Vec<Fault>,
        shutdown: CancellationToken,
    ) {
        tokio::select! {
            () = self.probe(&needs, &faults) => {}
            () = shutdown.cancelled() => {}
        }
        self.report(false).await;
        tokio::time::sleep(NOTICE).await;
        for name in &self.names {
            self.reporter.clone().clear_service_status(name).await;
        }
    }

    /// Probes the dependencies and the faults, and reports health; never returns.
    async fn probe(&self, needs: &[Need], faults: &[Fault]) {
        let (mut serving, mut failed) = (needs.is_empty(), 0);
        loop {
            let fault = faults.iter().find_map(|fault| fault());
            let met = join_all(needs.iter().map(Need::is_met)).await;
            let gone = needs.iter().zip(met).filter(|(_, met)| !met);
            let gone: Vec<&str> = gone.map(|(need, _)| need.name.as_str()).collect();
            failed = if gone.is_empty() { 0 } else { failed + 1 };
            if !serving && gone.is_empty() && fault.is_none() {
                tracing::info!("SERVING");
                self.report(true).await;
                serving = true;
            } else if serving && (failed >= FAILED_PROBES || fault.is_some()) {
                tracing::error!(?gone, fault, "NOT_SERVING");
                self.report(false).await;
                serving = false;
            }
            tokio::time::sleep(if serving { INTERVAL } else { RETRY }).await;
        }
    }
}
