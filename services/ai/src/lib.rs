//! `ai.AiService`: online text classification; models by id, kept by the database service.
//!
//! [`features`], [`vocabulary`], [`machine`], [`memory`] and [`trial`] make up the [`model`] that learns, [`format`]
//! writes it, [`shelf`] stores it under a [`claim`] as [`documents`], [`registry`] holds those in use, [`training`] has
//! one learn on the thread of [`learning`], [`service`] speaks the protocol and [`request`] checks what it is given.

mod claim;
mod documents;
mod features;
mod format;
mod learning;
mod machine;
mod memory;
mod model;
mod registry;
mod request;
mod service;
mod shelf;
mod training;
mod trial;
mod vocabulary;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pspd_proto::ai::ai_service_server::AiServiceServer;
use serving::trace::Context;
use serving::{
    CancellationToken, ConfigError, Dependency, MESSAGE_LIMIT, Service, Services, Settings,
};
use tokio::net::TcpListener;

use crate::learning::Learning;
use crate::registry::Registry;
use crate::service::Ai;
use crate::shelf::Shelf;

const LOAD_PAUSE: Duration = Duration::from_secs(2);

/// What the service is told by its environment.
#[derive(Debug)]
pub struct Config {
    pub service: Service,
    pub database: Dependency,
}

impl Config {
    /// Reads `AI_DATABASE` and what every service reads.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let service = settings.service();
        let database = settings.dependency("AI_DATABASE");
        let config = service
            .zip(database)
            .map(|(service, database)| Self { service, database });
        settings.finish(config)
    }
}

/// Binds and serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.service.listen)
        .await
        .with_context(|| format!("can't listen on `{}`", config.service.listen))?;
    serve(listener, &config, shutdown).await
}

/// Serves on a listener until `shutdown`; stored models are loaded meanwhile.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let registry = Arc::new(Registry::new(Shelf::new(&config.database)));
    let context = Context::begin(config.service.name.as_str().into(), None);
    let loading = tokio::spawn(Arc::new(context).scope(load(registry.clone())));
    let learning = Learning::start().context("can't start the thread that learns")?;
    let ai = AiServiceServer::new(Ai::new(registry, learning, shutdown.clone()))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let served = serving::serve(
        listener,
        &config.service,
        Services::default()
            .with(ai)
            .needing(&config.database, "database.DatabaseService"),
        shutdown,
    )
    .await;
    loading.abort();
    served
}

async fn load(registry: Arc<Registry>) {
    loop {
        match registry.load_all().await {
            Ok(models) => return tracing::info!(models, "models loaded"),
            Err(error) => tracing::warn!(error = error.message(), "models can't be loaded yet"),
        }
        tokio::time::sleep(LOAD_PAUSE).await;
    }
}
