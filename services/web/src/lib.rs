//! The web server: `business.BusinessService` over mutual TLS, and over HTTP the client, gRPC-Web and a JSON edge.
//!
//! [`backends`] calls the other services, [`workflows`] combines them; [`business`] (gRPC) and [`edge`] (JSON) are two
//! faces of the same workflows. [`http`] puts the HTTP side together.

mod assets;
mod backends;
mod business;
mod edge;
mod http;
mod metrics;
mod problem;
mod workflows;

use std::net::SocketAddr;

use anyhow::Context as _;
use pspd_proto::business::business_service_server::BusinessServiceServer;
use serving::{
    CancellationToken, ConfigError, Dependency, MESSAGE_LIMIT, Service, Services, Settings,
};
use tokio::net::TcpListener;

use crate::backends::Backends;
use crate::business::Business;
use crate::workflows::Workflows;

/// What the service is told by its environment.
#[derive(Debug)]
pub struct Config {
    pub service: Service,
    /// Where HTTP is served.
    pub http: SocketAddr,
    pub database: Dependency,
    pub ai: Dependency,
}

impl Config {
    /// Reads `WEB_HTTP`, `WEB_DATABASE`, `WEB_AI` and what every service reads.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let service = settings.service();
        let http = settings.parsed("WEB_HTTP", "an address such as 0.0.0.0:8080");
        let database = settings.dependency("WEB_DATABASE");
        let ai = settings.dependency("WEB_AI");
        let config = (|| {
            Some(Self {
                service: service?,
                http: http?,
                database: database?,
                ai: ai?,
            })
        })();
        settings.finish(config)
    }
}

/// Binds both sides and serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let grpc = bind(config.service.listen).await?;
    let http = bind(config.http).await?;
    serve(grpc, http, &config, shutdown).await
}

/// Serves both sides on their listeners until `shutdown`.
pub async fn serve(
    grpc: TcpListener,
    http: TcpListener,
    config: &Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let backends = Backends::new(&config.service.name, &config.database, &config.ai);
    let workflows = Workflows::new(backends, shutdown.clone());
    let business = BusinessServiceServer::new(Business::new(workflows.clone()))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let routes = http::routes(&config.service.name, workflows, business.clone());
    let services = Services::default().with(business);
    tokio::try_join!(
        serving::serve(grpc, &config.service, services, shutdown.clone()),
        http::serve(http, routes, shutdown),
    )?;
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on `{address}`"))
}
