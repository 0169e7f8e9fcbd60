//! `database.DatabaseService` over SQLite: collections of JSON documents, durable once acknowledged.
//!
//! [`filter`] turns a query into a condition, [`store`] keeps documents, [`service`] speaks the protocol.

mod filter;
mod service;
mod store;

use std::path::PathBuf;

use anyhow::Context as _;
use pspd_proto::database::database_service_server::DatabaseServiceServer;
use serving::{CancellationToken, ConfigError, MESSAGE_LIMIT, Service, Services, Settings};
use tokio::net::TcpListener;

use crate::service::Database;
pub use crate::store::Store;

/// What the service is told by its environment.
#[derive(Debug)]
pub struct Config {
    pub service: Service,
    /// The database's file; it is made where it is missing.
    pub store: PathBuf,
}

impl Config {
    /// Reads `DATABASE_STORE` and what every service reads.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let service = settings.service();
        let store = settings.required("DATABASE_STORE", "the path of the database's file");
        let config = service.zip(store).map(|(service, store)| Self {
            service,
            store: store.into(),
        });
        settings.finish(config)
    }
}

/// Opens the store, binds and serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = Store::open(&config.store).await?;
    let listener = TcpListener::bind(config.service.listen)
        .await
        .with_context(|| format!("can't listen on `{}`", config.service.listen))?;
    serve(listener, &config.service, store, shutdown).await
}

/// Serves a store on a listener until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    service: &Service,
    store: Store,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let database = DatabaseServiceServer::new(Database::new(store.clone()))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let served = serving::serve(
        listener,
        service,
        Services::default().with(database),
        shutdown,
    )
    .await;
    store.close().await.context("can't close the store")?;
    served
}
