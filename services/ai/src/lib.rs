//! `ai.AiService`: online text classification. Models have ids and are kept by the database service.
//!
//! [`features`], [`vocabulary`], [`machine`], [`reservoir`] and [`validation`] make up the [`model`]. [`format`]
//! encodes it, [`model_store`] stores it under a [`lease`] as [`documents`], [`registry`] holds the models in use,
//! [`training`] trains one on the thread of [`learning`], [`service`] implements the protocol and [`request`] checks
//! requests.

mod documents;
mod features;
mod format;
mod learning;
mod lease;
mod machine;
mod model;
mod model_store;
mod registry;
mod request;
mod reservoir;
mod service;
mod training;
mod validation;
mod vocabulary;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pspd_proto::ai::ai_service_server::AiServiceServer;
use serving::trace::Context;
use serving::{
    CancellationToken, ConfigError, Dependency, MESSAGE_LIMIT, Service, Services, Settings,
};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;

use crate::learning::Learning;
use crate::model_store::ModelStore;
use crate::registry::Registry;
use crate::service::Ai;

const LOAD_PAUSE: Duration = Duration::from_secs(2);
/// How long a model stays in memory that is not used, by default.
pub const IDLE: Duration = Duration::from_secs(1800);

/// The service's settings.
#[derive(Debug)]
pub struct Config {
    pub service: Service,
    pub database: Dependency,
    /// How long a model stays in memory that is not used.
    pub idle: Duration,
}

impl Config {
    /// Reads `AI_DATABASE`, `AI_MODEL_IDLE` (seconds) and the settings of every service.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let service = settings.service();
        let database = settings.dependency("AI_DATABASE", "database-server");
        let idle = match settings.optional("AI_MODEL_IDLE") {
            None => Some(IDLE),
            Some(_) => settings
                .parsed::<NonZeroU64>("AI_MODEL_IDLE", "a number of seconds from 1")
                .map(|seconds| Duration::from_secs(seconds.get())),
        };
        settings.finish(|| {
            Some(Self {
                service: service?,
                database: database?,
                idle: idle?,
            })
        })
    }
}

/// Binds and serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.service.listen)
        .await
        .with_context(|| format!("failed to listen on `{}`", config.service.listen))?;
    serve(listener, &config, shutdown).await
}

/// Serves on a listener until `shutdown`; stored models are loaded meanwhile.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let registry = Arc::new(Registry::new(ModelStore::new(&config.database)));
    let context = Context::begin(config.service.name.as_str().into(), None);
    let loading = tokio::spawn(Arc::new(context).scope(load(registry.clone())));
    let unloading = tokio::spawn(unload(registry.clone(), config.idle));
    let learning = Learning::start().context("failed to start the learning thread")?;
    let ai = AiServiceServer::new(Ai::new(registry, learning, shutdown.clone()))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
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
    unloading.abort();
    served
}

async fn unload(registry: Arc<Registry>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 4).await;
        registry.unload(idle);
    }
}

async fn load(registry: Arc<Registry>) {
    loop {
        match registry.load_all().await {
            Ok(models) => return tracing::info!(models, "models loaded"),
            Err(error) => tracing::warn!(
                error = error.message(),
                "failed to load the models; retrying"
            ),
        }
        tokio::time::sleep(LOAD_PAUSE).await;
    }
}
