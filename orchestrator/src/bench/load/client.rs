//! Connections to a target, by gRPC or by HTTP.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::call::Failure;
use super::documents::Documents;
use super::payload::Line;
use super::{grpc, http};
use crate::reflection::Target;

/// Connections to a target, and what is sent on them.
pub enum Client {
    Grpc(grpc::Client),
    Http(http::Client),
    Documents(Arc<Documents>),
}

impl Client {
    /// Finds the method by reflection, encodes the payload and opens the connections.
    pub async fn grpc(
        target: &Target,
        method: &str,
        lines: &[Line],
        connections: usize,
    ) -> anyhow::Result<Client> {
        let client = grpc::Client::open(target, method, lines, connections).await?;
        Ok(Client::Grpc(client))
    }

    /// Opens the connections for requests of `path`: GET without bodies, else POST.
    pub async fn http(
        target: &Target,
        path: Line,
        bodies: Vec<Line>,
        connections: usize,
    ) -> anyhow::Result<Client> {
        let client = http::Client::open(target, path, bodies, connections).await?;
        Ok(Client::Http(client))
    }

    /// Sends one call before the load, with the number 0. That it is rejected for what it asks is an error: so will all be.
    pub async fn first(&self, limit: Duration) -> anyhow::Result<()> {
        let Ok(Err(failure)) = timeout(limit, self.call(0)).await else {
            return Ok(());
        };
        let Failure { status, message } = failure;
        anyhow::ensure!(
            !status.is_refusal(),
            "the service rejects the first call with {status}: {message}. No load was sent"
        );
        Ok(())
    }

    /// Sends the call with this running number, and waits for its end.
    pub(super) async fn call(&self, number: u64) -> Result<(), Failure> {
        match self {
            Client::Grpc(client) => client.call(number).await,
            Client::Http(client) => client.call(number).await,
            Client::Documents(documents) => documents.call(number).await,
        }
    }

    /// How many calls can be in flight.
    pub(super) fn room(&self) -> usize {
        match self {
            Client::Grpc(client) => client.room(),
            Client::Http(client) => client.room(),
            Client::Documents(documents) => documents.room(),
        }
    }
}
