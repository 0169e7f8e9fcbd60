//! Health by `grpc.health.v1`, for each service's name and for the whole (the empty name).
//!
//! ```text
//! NOT_SERVING --every dependency SERVING--> SERVING --one gone for two looks, or draining--> NOT_SERVING
//! ```
//! It is advice for who chooses where to send calls, and for `pspd up`: calls that come all the same are answered as
//! far as that goes without the dependency.

use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

use crate::channel::{Dependency, Link, deadline};

/// Between two looks at the dependencies.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while one of them is gone.
const RETRY: Duration = Duration::from_millis(200);
/// How long a dependency may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// One look is no proof: a dependency that is deployed anew is away for a moment.
const LOOKS: u32 = 2;
/// How long health says NOT_SERVING before its watchers' streams end.
const NOTICE: Duration = Duration::from_millis(200);

/// A gRPC service of another process without which this one can't do its work.
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

/// What this process says about its services.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

impl Health {
    /// Begins with NOT_SERVING where there are needs.
    pub(crate) async fn new(
        reporter: HealthReporter,
        mut names: Vec<&'static str>,
        needs: &[Need],
    ) -> Self {
        names.push("");
        let health = Self { reporter, names };
        health.say(needs.is_empty()).await;
        health
    }

    async fn say(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Follows the needs and the process's own faults until `shutdown`; then says NOT_SERVING, and returns when that could be noticed. What watches
    /// health is ended: it would hold its connection open.
    pub(crate) async fn follow(
        self,
        needs: Vec<Need>,
        faults: Vec<Fault>,
        shutdown: CancellationToken,
    ) {
        tokio::select! {
            () = self.look(&needs, &faults) => {}
            () = shutdown.cancelled() => {}
        }
        self.say(false).await;
        tokio::time::sleep(NOTICE).await;
        for name in &self.names {
            self.reporter.clone().clear_service_status(name).await;
        }
    }

    /// Never returns.
    async fn look(&self, needs: &[Need], faults: &[Fault]) {
        let (mut serving, mut looks) = (needs.is_empty(), 0);
        loop {
            let fault = faults.iter().find_map(|fault| fault());
            let met = join_all(needs.iter().map(Need::is_met)).await;
            let gone = needs.iter().zip(met).filter(|(_, met)| !met);
            let gone: Vec<&str> = gone.map(|(need, _)| need.name.as_str()).collect();
            looks = if gone.is_empty() { 0 } else { looks + 1 };
            if !serving && gone.is_empty() && fault.is_none() {
                tracing::info!("SERVING");
                self.say(true).await;
                serving = true;
            } else if serving && (looks >= LOOKS || fault.is_some()) {
                tracing::error!(?gone, fault, "not SERVING");
                self.say(false).await;
                serving = false;
            }
            tokio::time::sleep(if serving { INTERVAL } else { RETRY }).await;
        }
    }
}
