//! Where models are kept: documents of the database service, in the collection `ai-models`.
//!
//! ```text
//! {"kind": "part", "model": ID, "version": N, "data": BASE64}     as many as it takes
//! {"kind": "head", "model": ID, "version": N, "parts": [ID...]}   the one that counts, replaced at a stroke
//! ```
//! A save that breaks off leaves parts that no head names; the next save of that model sweeps them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{
    CreateRequest, DeleteRequest, QueryRequest, ReadRequest, UpdateRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serving::channel::{deadline, retry};
use serving::{Dependency, Link, MESSAGE_LIMIT, Problem, error};
use tonic::Status;

use crate::format;
use crate::model::Model;

const COLLECTION: &str = "ai-models";
const DEADLINE: Duration = Duration::from_secs(15);
/// Of compressed bytes; base64 makes a third more of it.
const PART: usize = 2 * 1024 * 1024;

/// The database service, as a place for models.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    client: DatabaseServiceClient<Link>,
    database: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename = "head")]
struct Head {
    model: String,
    version: u64,
    parts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename = "part")]
struct Part {
    model: String,
    version: u64,
    data: String,
}

impl Shelf {
    pub(crate) fn new(database: &Dependency) -> Self {
        let client = DatabaseServiceClient::new(database.connect())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Self {
            client,
            database: database.name.clone(),
        }
    }

    /// The ids of all models.
    pub(crate) async fn list(&self) -> Result<Vec<String>, Status> {
        let heads = self.query(json!({"kind": "head"})).await?;
        heads
            .iter()
            .map(|(_, data)| Ok(parse::<Head>(data)?.model))
            .collect()
    }

    /// Reads a model if it is there.
    pub(crate) async fn load(&self, id: &str) -> Result<Option<Model>, Status> {
        let Some((_, head)) = self.head(id).await? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        for part in head.parts {
            let part: Part = parse(&self.read(part).await?)?;
            bytes.extend(BASE64.decode(part.data).map_err(|error| damaged(&error))?);
        }
        let model = tokio::task::spawn_blocking(move || format::decode(&bytes))
            .await
            .map_err(|error| Problem::internal("decoding a model failed", error))?
            .map_err(|error| damaged(&format!("{error:#}")))?;
        Ok(Some(model))
    }

    /// Replaces a model; returns how many bytes it takes before base64.
    pub(crate) async fn save(&self, id: &str, bytes: Vec<u8>) -> Result<(), Status> {
        let before = self.head(id).await?;
        let version = before.as_ref().map_or(1, |(_, head)| head.version + 1);
        let mut head = Head {
            model: id.to_owned(),
            version,
            parts: Vec::new(),
        };
        for chunk in bytes.chunks(PART) {
            let part = Part {
                model: id.to_owned(),
                version,
                data: BASE64.encode(chunk),
            };
            head.parts.push(self.create(&part).await?);
        }
        match before {
            Some((document, _)) => self.update(document, &head).await?,
            None => drop(self.create(&head).await?),
        }
        if let Err(error) = self.sweep(id, &head.parts).await {
            tracing::warn!(model = id, %error, "parts of an earlier version are left");
        }
        Ok(())
    }

    async fn sweep(&self, id: &str, keep: &[String]) -> Result<(), Status> {
        let parts = self.query(json!({"kind": "part", "model": id})).await?;
        for (part, _) in parts.into_iter().filter(|(part, _)| !keep.contains(part)) {
            let request = DeleteRequest {
                collection: COLLECTION.to_owned(),
                id: part,
            };
            let outcome = self
                .client
                .clone()
                .delete(deadline(request, DEADLINE))
                .await;
            outcome.map_err(|status| self.describe(status))?;
        }
        Ok(())
    }

    async fn head(&self, id: &str) -> Result<Option<(String, Head)>, Status> {
        let heads = self.query(json!({"kind": "head", "model": id})).await?;
        let heads = heads
            .into_iter()
            .map(|(document, data)| Ok((document, parse::<Head>(&data)?)))
            .collect::<Result<Vec<_>, Status>>()?;
        Ok(heads.into_iter().max_by_key(|(_, head)| head.version))
    }

    async fn query(&self, filter: serde_json::Value) -> Result<Vec<(String, String)>, Status> {
        let query = filter.to_string();
        let found = retry(|| async {
            let request = QueryRequest {
                collection: COLLECTION.to_owned(),
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
        found.await.map_err(|status| self.describe(status))
    }

    async fn read(&self, id: String) -> Result<String, Status> {
        let response = retry(|| async {
            let request = ReadRequest {
                collection: COLLECTION.to_owned(),
                id: id.clone(),
            };
            self.client.clone().read(deadline(request, DEADLINE)).await
        });
        let response = response.await.map_err(|status| self.describe(status))?;
        Ok(response.into_inner().data)
    }

    async fn create(&self, document: &impl Serialize) -> Result<String, Status> {
        let request = CreateRequest {
            collection: COLLECTION.to_owned(),
            data: text(document)?,
        };
        let response = self
            .client
            .clone()
            .create(deadline(request, DEADLINE))
            .await;
        Ok(response
            .map_err(|status| self.describe(status))?
            .into_inner()
            .id)
    }

    async fn update(&self, id: String, document: &impl Serialize) -> Result<(), Status> {
        let request = UpdateRequest {
            collection: COLLECTION.to_owned(),
            id,
            data: text(document)?,
        };
        let response = self
            .client
            .clone()
            .update(deadline(request, DEADLINE))
            .await;
        response.map_err(|status| self.describe(status))?;
        Ok(())
    }

    fn describe(&self, status: Status) -> Status {
        error::from_dependency(status, &self.database)
    }
}

fn text(document: &impl Serialize) -> Result<String, Status> {
    serde_json::to_string(document)
        .map_err(|error| Problem::internal("a model's document can't be written", error).into())
}

fn parse<T: for<'de> Deserialize<'de>>(data: &str) -> Result<T, Status> {
    serde_json::from_str(data).map_err(|error| damaged(&error))
}

fn damaged(cause: &dyn std::fmt::Display) -> Status {
    Problem::internal("a stored model is damaged", cause).into()
}
