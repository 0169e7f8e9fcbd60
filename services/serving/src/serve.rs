//! Serving: TLS, the table of callers, health, metrics, reflection, limits, and draining with a deadline.
//!
//! ```text
//! SERVING -- shutdown --> NOT_SERVING (noticeable) -- listener closed --> calls end, a quiet second --> done
//!                                                     deadline passed --> calls cancelled --> done
//! ```

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use axum::routing::get;
use http::{Request, Response};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use pspd_proto::health::health_server::HealthServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic_reflection::server as reflection;

use crate::activity::Activity;
use crate::callers::Admit;
use crate::channel::Dependency;
use crate::described::{Describe, READ_LIMIT};
use crate::export;
use crate::health::{Fault, Health, Listed, Need};
use crate::incoming::{Door, connections};
use crate::metrics::{self, Metrics};
use crate::observe::Observe;
use crate::oversized::Oversized;
use crate::settings::Service;
use crate::time_limits::TimeLimits;
use crate::windows;

/// How long calls may continue after the listener is closed.
const DRAIN: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The most concurrent calls of one connection; further calls wait at the caller.
const STREAMS: u32 = 256;
/// After this time the caller is asked to reconnect, so that both sides use their renewed certificates. Calls in
/// progress continue to their end.
const CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// The gRPC services that one process offers.
#[derive(Default)]
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    needs: Vec<(Dependency, &'static str)>,
    faults: Vec<Fault>,
    metrics: Metrics,
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
        self.routes.add_service(Oversized(service));
        self.names.push(S::NAME);
        self
    }

    /// The metrics of the process, for its other listeners.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds a gRPC service of another process; while it is unavailable, health reports NOT_SERVING.
    pub fn needing(mut self, dependency: &Dependency, service: &'static str) -> Self {
        self.needs.push((dependency.clone(), service));
        self
    }

    /// Health says NOT_SERVING while `fault`, which is called each second, returns a reason.
    pub fn failing_by(
        mut self,
        fault: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.faults.push(Box::new(fault));
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
    if let Some(collector) = &service.collector {
        export::start(collector);
    }
    let Services {
        mut routes,
        names,
        needs,
        faults,
        metrics,
    } = services;
    let needs: Vec<Need> = needs
        .iter()
        .map(|(dependency, service)| Need::new(dependency, service))
        .collect();
    let health = Health::new(names.clone(), &needs).await;
    let unreadable = "failed to describe the services";
    routes
        .add_service(health.server())
        .add_service(reflection(&names)?.build_v1().context(unreadable)?)
        .add_service(reflection(&names)?.build_v1alpha().context(unreadable)?);

    let shown = metrics.clone();
    let routes = routes
        .routes()
        .into_axum_router()
        .route(metrics::PATH, get(async move || shown.response()));

    let activity = Activity::default();
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(windows::CONNECTION)
        .initial_stream_window_size(windows::STREAM)
        .http2_max_header_list_size(READ_LIMIT)
        .http2_max_pending_accept_reset_streams(Some(windows::RESETS))
        .http2_max_local_error_reset_streams(Some(windows::RESETS))
        .max_connection_age(CONNECTION_AGE)
        .layer(Observe {
            service: service.name.as_str().into(),
            metrics: metrics.clone(),
            activity: activity.clone(),
        })
        .layer(Admit {
            callers: service.callers.clone().into(),
        })
        .layer(TimeLimits::new()?)
        .layer(Describe)
        .add_routes(routes.into());
    let address = listener
        .local_addr()
        .context("failed to read the listening address")?;
    tracing::info!(service = service.name, %address, "serving");

    let closing = CancellationToken::new();
    let serving = async {
        let closed = closing.clone().cancelled_owned();
        let refused = metrics.refused.clone();
        let door = Door::new(service, refused, activity.clone());
        let incoming = connections(listener, door, closing.clone());
        server.serve_with_incoming_shutdown(incoming, closed).await
    };
    tokio::select! {
        outcome = serving => outcome.context("the server failed")?,
        ended = drain(health.follow(needs, faults, shutdown), &closing, &activity) => {
            if !ended {
                tracing::warn!(service = service.name, "cancelled the calls that were open at the drain deadline");
            }
        }
    }
    export::flush().await;
    tracing::info!(service = service.name, "stopped");
    Ok(())
}

/// Describes the services that are served, and no others.
fn reflection(names: &[&'static str]) -> anyhow::Result<reflection::Builder<'static>> {
    let mut own = FileDescriptorSet::decode(pspd_proto::DESCRIPTORS)
        .context("failed to read the protocols' descriptors")?;
    own.file.retain(|file| {
        let mut services = file.service.iter();
        services.any(|service| {
            let name = format!("{}.{}", file.package(), service.name());
            names.contains(&name.as_str()) || name == HealthServer::<Listed>::NAME
        })
    });
    let builder = reflection::Builder::configure()
        .register_file_descriptor_set(own)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET);
    let common = [
        HealthServer::<Listed>::NAME,
        "grpc.reflection.v1.ServerReflection",
    ];
    let names = names.iter().copied().chain(common);
    Ok(names.fold(builder, reflection::Builder::with_service_name))
}

/// Says whether all calls ended before the deadline. `noticed` ends when health has reported NOT_SERVING for a moment.
async fn drain(
    noticed: impl Future<Output = ()>,
    closing: &CancellationToken,
    activity: &Activity,
) -> bool {
    noticed.await;
    closing.cancel();
    tokio::time::timeout(DRAIN, activity.ends()).await.is_ok()
}
