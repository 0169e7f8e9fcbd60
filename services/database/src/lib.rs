//! `database.DatabaseService` over SQLite or PostgreSQL: collections of JSON documents, durable once acknowledged.
//!
//! [`query`] reads a query's text, [`store`] keeps documents, [`service`] speaks the protocol, and [`problem`] says
//! in its terms what failed.

mod indexes;
mod json;
mod problem;
mod query;
mod service;
mod store;
mod text;

use anyhow::Context as _;
use pspd_proto::database::database_service_server::DatabaseServiceServer;
use serving::{CancellationToken, ConfigError, MESSAGE_LIMIT, Service, Services, Settings};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;

pub use crate::indexes::Indexes;
use crate::service::Database;
pub use crate::store::{Fault, Location, Store, backup, checkpoint};

/// A message over the limit by no more than this is still read, so that its field can be named.
const MESSAGE_MARGIN: usize = 64 * 1024;

/// The service's configuration, from its environment.
#[derive(Debug)]
pub struct Config {
    pub service: Service,
    pub store: Location,
    pub indexes: Indexes,
}

impl Config {
    /// Reads `DATABASE_STORE`, `DATABASE_INDEXES`, `DATABASE_OWNERS` (`COLLECTION=CALLER,...`) and what every service
    /// reads.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let service = settings.service();
        let owners = settings.owners("DATABASE_OWNERS");
        let store = location(&mut settings);
        let indexes = settings
            .optional("DATABASE_INDEXES")
            .unwrap_or_default()
            .parse::<Indexes>()
            .map_err(|fault| settings.fault("DATABASE_INDEXES", &fault))
            .ok();
        settings.finish(|| {
            Some(Self {
                service: Service {
                    owners: owners?,
                    ..service?
                },
                store: store?,
                indexes: indexes?,
            })
        })
    }
}

/// Reads where the store is, `DATABASE_STORE`.
pub fn location(settings: &mut Settings) -> Option<Location> {
    let key = "DATABASE_STORE";
    let meaning = "the path of the database's file, or a `postgres://` URL";
    let location = settings.required(key, meaning)?.parse::<Location>();
    location.map_err(|fault| settings.fault(key, &fault)).ok()
}

/// Opens the store, binds and serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = Store::open(&config.store, config.indexes).await?;
    let listener = TcpListener::bind(config.service.listen)
        .await
        .with_context(|| format!("failed to listen on `{}`", config.service.listen))?;
    serve(listener, &config.service, store, shutdown).await
}

/// Serves a store on a listener until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    service: &Service,
    store: Store,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let database = Database::new(store.clone(), service.owners.clone(), shutdown.clone());
    let database = DatabaseServiceServer::new(database)
        .max_decoding_message_size(MESSAGE_LIMIT + MESSAGE_MARGIN)
        .max_encoding_message_size(MESSAGE_LIMIT)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let watched = store.clone();
    let services = Services::default()
        .with(database)
        .failing_by(move || Some(watched.fault()?.to_string()));
    let served = serving::serve(listener, service, services, shutdown).await;
    store.close().await.context("failed to close the store")?;
    served
}
