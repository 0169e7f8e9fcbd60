//! Serving: TLS, health per service, reflection, limits, and draining with a deadline.
//!
//! ```text
//! SERVING -- shutdown --> NOT_SERVING (noticeable) -- listener closed --> calls end --> done
//!                                                     deadline passed --> calls cut  --> done
//! ```

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::observe::Observe;
use crate::settings::Service;

/// How long health says NOT_SERVING before the listener closes.
const NOTICE: Duration = Duration::from_millis(200);
/// How long calls may go on after that.
const DRAIN: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The gRPC services that one process offers.
#[derive(Debug, Default)]
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Services {
    /// Adds a generated server; its name becomes a name of the health service.
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }
}

/// Serves until `shutdown` is cancelled, then drains. Long-lived streams should end on the same token.
pub async fn serve(
    listener: TcpListener,
    service: &Service,
    services: Services,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Services { mut routes, names } = services;
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in &names {
        health
            .set_service_status(name, ServingStatus::Serving)
            .await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pspd_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("can't read the protocols' descriptors")?;
    routes.add_service(health_service).add_service(reflection);

    let mut server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(Observe {
            service: service.name.as_str().into(),
        });
    if let Some(identity) = &service.identity {
        server = server
            .tls_config(identity.server())
            .context("can't set up TLS")?;
    }
    let address = listener
        .local_addr()
        .context("can't read the listening address")?;
    tracing::info!(service = service.name, %address, "serving");

    let closing = CancellationToken::new();
    let serving = server
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            closing.clone().cancelled_owned(),
        );
    tokio::select! {
        outcome = serving => outcome.context("the server failed")?,
        () = drain(&health, &names, &shutdown, &closing) => {
            tracing::warn!(service = service.name, "calls were cut at the drain's deadline");
        }
    }
    tracing::info!(service = service.name, "stopped");
    Ok(())
}

/// Returns only when the deadline has passed.
async fn drain(
    health: &HealthReporter,
    names: &[&'static str],
    shutdown: &CancellationToken,
    closing: &CancellationToken,
) {
    shutdown.cancelled().await;
    for name in names.iter().chain(&[""]) {
        health
            .set_service_status(name, ServingStatus::NotServing)
            .await;
    }
    tokio::time::sleep(NOTICE).await;
    closing.cancel();
    // Ends the health service's watchers, which would hold their connections open.
    for name in names.iter().chain(&[""]) {
        let mut health = health.clone();
        health.clear_service_status(name).await;
    }
    tokio::time::sleep(DRAIN).await;
}
