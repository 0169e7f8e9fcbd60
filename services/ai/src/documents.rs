//! A client of the database service: typed documents, deadlines, retries of idempotent calls, and errors that name the
//! database.

use std::time::Duration;

use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{
    CreateRequest, DeleteRequest, QueryRequest, ReadRequest, UpdateRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serving::channel::{deadline, retry};
use serving::{Dependency, Link, MESSAGE_LIMIT, Problem, error};
use tonic::{Code, Status};

const DEADLINE: Duration = Duration::from_secs(15);

/// A client of the database service.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    client: DatabaseServiceClient<Link>,
    database: String,
}

impl Documents {
    pub(crate) fn new(database: &Dependency) -> Self {
        let client = DatabaseServiceClient::new(database.connect())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Self {
            client,
            database: database.name.clone(),
        }
    }

    /// All matching documents with their ids, oldest first.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        collection: &str,
        filter: serde_json::Value,
    ) -> Result<Vec<(String, T)>, Status> {
        let query = filter.to_string();
        let found = retry(|| async {
            let request = QueryRequest {
                collection: collection.to_owned(),
                query: query.clone(),
            };
            let mut results = self
                .client
                .clone()
                .query(deadline(request, DEADLINE))
                .await?
                .into_inner();
            let mut found = Vec::new();
            while let Some(result) = results.message().await? {
                found.push((result.id, result.data));
            }
            Ok(found)
        });
        let found = found.await.map_err(|status| self.describe(status))?;
        found
            .into_iter()
            .map(|(id, data)| Ok((id, parse(&data)?)))
            .collect()
    }

    /// A document, if it exists.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        collection: &str,
        id: &str,
    ) -> Result<Option<T>, Status> {
        let response = retry(|| async {
            let request = ReadRequest {
                collection: collection.to_owned(),
                id: id.to_owned(),
            };
            self.client.clone().read(deadline(request, DEADLINE)).await
        });
        match response.await {
            Ok(response) => parse(&response.into_inner().data).map(Some),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.describe(status)),
        }
    }

    /// Stores a new document and returns its id.
    pub(crate) async fn create(
        &self,
        collection: &str,
        document: &impl Serialize,
    ) -> Result<String, Status> {
        let request = CreateRequest {
            collection: collection.to_owned(),
            data: text(document)?,
        };
        let mut client = self.client.clone();
        let created = client.create(deadline(request, DEADLINE));
        let response = created.await.map_err(|status| self.describe(status))?;
        Ok(response.into_inner().id)
    }

    /// Replaces a document, within `limit`.
    pub(crate) async fn update(
        &self,
        collection: &str,
        id: &str,
        document: &impl Serialize,
        limit: Duration,
    ) -> Result<(), Status> {
        let request = UpdateRequest {
            collection: collection.to_owned(),
            id: id.to_owned(),
            data: text(document)?,
        };
        let mut client = self.client.clone();
        let updated = client.update(deadline(request, limit.min(DEADLINE)));
        updated.await.map_err(|status| self.describe(status))?;
        Ok(())
    }

    /// Deletes a document, if it exists.
    pub(crate) async fn delete(&self, collection: &str, id: &str) -> Result<(), Status> {
        let deleted = retry(|| async {
            let request = DeleteRequest {
                collection: collection.to_owned(),
                id: id.to_owned(),
            };
            let outcome = self
                .client
                .clone()
                .delete(deadline(request, DEADLINE))
                .await;
            match outcome {
                Err(status) if status.code() != Code::NotFound => Err(status),
                _ => Ok(()),
            }
        });
        deleted.await.map_err(|status| self.describe(status))
    }

    fn describe(&self, status: Status) -> Status {
        error::from_dependency(status, &self.database)
    }
}

fn text(document: &impl Serialize) -> Result<String, Status> {
    serde_json::to_string(document)
        .map_err(|error| Problem::internal("failed to encode a model's document", error).into())
}

fn parse<T: DeserializeOwned>(data: &str) -> Result<T, Status> {
    serde_json::from_str(data).map_err(|error| {
        tracing::error!(%error, "a model's document is damaged");
        let message = "a model's document in the database is damaged";
        Problem::new(Code::DataLoss, "MODEL_DAMAGED", message).into()
    })
}
