//! The web server: `business.BusinessService` over mutual TLS, and the client, gRPC-Web and a JSON edge over HTTP.
//!
//! [`backends`] calls the other services, each a [`backend`], within a caller's [`deadline`]. [`workflows`],
//! [`learning`], [`summary`] and [`history`] combine these calls; [`business`] (gRPC) and [`edge`] (JSON) offer the result, and
//! [`documents`] forwards the database's own protocol. [`http`] combines the HTTP side, and [`access`] says who may use
//! it.

mod access;
mod assets;
mod backend;
mod backends;
mod business;
mod catalog;
mod connections;
mod counts;
mod deadline;
mod documents;
mod edge;
mod history;
mod http;
mod in_trace;
mod learning;
mod metrics;
mod origin;
mod problem;
mod proxies;
mod summary;
mod workflows;

use std::net::SocketAddr;

use anyhow::Context as _;
use pspd_proto::business::business_service_server::BusinessServiceServer;
use serving::{
    CancellationToken, ConfigError, Dependency, MESSAGE_LIMIT, Service, Services, Settings,
};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;

use crate::access::Access;
pub use crate::access::Token;
use crate::backends::Backends;
use crate::business::Business;
pub use crate::origin::Hosts;
pub use crate::proxies::Proxies;
use crate::workflows::Workflows;

/// The service's settings.
#[derive(Debug)]
pub struct Config {
    pub service: Service,
    /// The address of the HTTP side.
    pub http: SocketAddr,
    pub database: Dependency,
    pub ai: Dependency,
    /// The token that callers over HTTP need; without one, the API is open.
    pub token: Option<Token>,
    /// The names by which browsers may call the HTTP side, besides addresses, `localhost` and the service's name.
    pub hosts: Hosts,
    /// The proxies that are believed who the client is.
    pub proxies: Proxies,
}

impl Config {
    /// Reads `WEB_HTTP`, `WEB_DATABASE`, `WEB_AI`, `WEB_TOKEN` or `WEB_TOKEN_FILE`, `WEB_HOSTS`,
    /// `WEB_TRUSTED_PROXIES`, and the settings of every service.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let service = settings.service();
        let http = settings.parsed("WEB_HTTP", "an address such as 0.0.0.0:8080");
        let database = settings.dependency("WEB_DATABASE", "database-server");
        let ai = settings.dependency("WEB_AI", "ai-server");
        let token = token(&mut settings);
        let hosts = settings
            .optional("WEB_HOSTS")
            .unwrap_or_default()
            .parse()
            .map_err(|fault: String| settings.fault("WEB_HOSTS", &fault))
            .ok();
        let proxies = settings.optional("WEB_TRUSTED_PROXIES").unwrap_or_default();
        // Without routes, there is no default gateway, which is the fault that is reported.
        let routes = || std::fs::read_to_string(proxies::ROUTES).unwrap_or_default();
        let proxies = Proxies::read(proxies, routes)
            .map_err(|fault| settings.fault("WEB_TRUSTED_PROXIES", &fault))
            .ok();
        settings.finish(|| {
            Some(Self {
                service: service?,
                http: http?,
                database: database?,
                ai: ai?,
                token,
                hosts: hosts?,
                proxies: proxies?,
            })
        })
    }
}

/// The token in `WEB_TOKEN`, or in the file that `WEB_TOKEN_FILE` names.
fn token(settings: &mut Settings) -> Option<Token> {
    let (key, text) = if let Some(path) = settings.optional("WEB_TOKEN_FILE") {
        let read = std::fs::read_to_string(path)
            .map_err(|error| format!("names `{path}`, which is not readable: {error}"));
        match read {
            Ok(text) => ("WEB_TOKEN_FILE", text),
            Err(fault) => {
                settings.fault("WEB_TOKEN_FILE", &fault);
                return None;
            }
        }
    } else {
        ("WEB_TOKEN", settings.optional("WEB_TOKEN")?.to_owned())
    };
    let token = text.parse().ok();
    if token.is_none() {
        settings.fault(
            key,
            "is not a valid token: it must have at least 16 characters and no spaces",
        );
    }
    token
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
        .max_encoding_message_size(MESSAGE_LIMIT)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let access = Access::new(config.token.clone());
    let (name, hosts) = (&config.service.name, config.hosts.clone());
    let services = Services::default();
    let metrics = services.metrics().clone();
    let routes = http::routes(
        name,
        workflows.clone(),
        hosts,
        access,
        business.clone(),
        metrics,
    );
    let services = services
        .with(business)
        .needing(&config.database, "database.DatabaseService")
        .needing(&config.ai, "ai.AiService");
    tokio::try_join!(
        serving::serve(grpc, &config.service, services, shutdown.clone()),
        async {
            http::serve(http, routes, config.proxies.clone(), shutdown).await;
            Ok(())
        },
        async {
            workflows.keep_history().await;
            Ok(())
        },
    )?;
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on `{address}`"))
}
