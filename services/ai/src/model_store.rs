//! The stored models: documents of the database service.
//!
//! ```text
//! ai-models       {"kind": "head", "model": ID, "version": N, "parts": [ID...]}   the current version, replaced at once
//! ai-model-parts  {"model": ID, "version": N, "data": BASE64}                     as many as the model's bytes need
//! ```
//! A model is replaced under a [`Lease`], and only by a model that was trained from the stored version. So no
//! replica's training is lost silently. An interrupted save leaves parts that no head names; the replica that takes
//! over its lease deletes them.

use std::fmt::Display;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serving::{Dependency, Problem};
use tonic::{Code, Status};

use crate::documents::Documents;
use crate::format;
use crate::lease::Lease;
use crate::model::Model;

const HEADS: &str = "ai-models";
const PARTS: &str = "ai-model-parts";
/// In compressed bytes; base64 adds a third.
const PART: usize = 2 * 1024 * 1024;
/// How long storing a model may take before other replicas take over.
const TERM: Duration = Duration::from_secs(60);
/// A head may be replaced while its parts are read.
const READS: usize = 3;

/// The database service as a store for models.
#[derive(Debug, Clone)]
pub(crate) struct ModelStore {
    pub(crate) documents: Documents,
    term: Duration,
}

/// A model and its version number; the first is 1.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) model: Model,
    pub(crate) version: u64,
}

/// The result of a save.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    Version(u64),
    /// Another replica stored a newer version: nothing was changed.
    Behind,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename = "head")]
struct Head {
    model: String,
    version: u64,
    parts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Part {
    model: String,
    version: u64,
    data: String,
}

impl ModelStore {
    pub(crate) fn new(database: &Dependency) -> Self {
        Self {
            documents: Documents::new(database),
            term: TERM,
        }
    }

    /// The ids of all models.
    pub(crate) async fn list(&self) -> Result<Vec<String>, Status> {
        let heads: Vec<(_, Head)> = self.documents.query(HEADS, json!({"kind": "head"})).await?;
        Ok(heads.into_iter().map(|(_, head)| head.model).collect())
    }

    /// The newest version's number, if there is one.
    pub(crate) async fn version(&self, id: &str) -> Result<Option<u64>, Status> {
        Ok(self.head(id).await?.map(|(_, head)| head.version))
    }

    /// Reads a model, if it exists.
    pub(crate) async fn load(&self, id: &str) -> Result<Option<Stored>, Status> {
        for _ in 0..READS {
            let Some((_, head)) = self.head(id).await? else {
                return Ok(None);
            };
            let Some(bytes) = self.bytes(&head).await? else {
                continue;
            };
            let model = tokio::task::spawn_blocking(move || format::decode(&bytes))
                .await
                .map_err(|error| Problem::internal("failed to decode a model", error))?
                .map_err(|error| damaged(id, format!("{error:#}")))?;
            return Ok(Some(Stored {
                model,
                version: head.version,
            }));
        }
        Err(damaged(id, "parts that its head names are missing").into())
    }

    /// Replaces version `base` of a model (0 if it does not exist), unless another version is stored.
    pub(crate) async fn save(&self, id: &str, bytes: &[u8], base: u64) -> Result<Saved, Status> {
        let lease = Lease::obtain(&self.documents, id, self.term).await?;
        let sweep = lease.took_over;
        let outcome = self.replace(id, bytes, base, &lease).await;
        // A failure may have left parts: the lease stays, so that the replica that takes over deletes them.
        if outcome.is_ok() {
            lease.release(&self.documents).await;
        }
        let (saved, old) = outcome?;
        let swept = async {
            for part in old {
                self.documents.delete(PARTS, &part).await?;
            }
            if sweep { self.sweep(id).await } else { Ok(()) }
        };
        if let Err(error) = swept.await {
            tracing::warn!(model = id, %error, "failed to delete parts of an earlier version");
        }
        Ok(saved)
    }

    /// Also returns the parts that are no longer needed.
    async fn replace(
        &self,
        id: &str,
        bytes: &[u8],
        base: u64,
        lease: &Lease,
    ) -> Result<(Saved, Vec<String>), Status> {
        let before = self.head(id).await?;
        if before.as_ref().map_or(0, |(_, head)| head.version) != base {
            return Ok((Saved::Behind, Vec::new()));
        }
        let version = base + 1;
        let mut parts = Vec::new();
        for chunk in bytes.chunks(PART) {
            lease.left()?;
            let part = Part {
                model: id.to_owned(),
                version,
                data: BASE64.encode(chunk),
            };
            parts.push(self.documents.create(PARTS, &part).await?);
        }
        let head = Head {
            model: id.to_owned(),
            version,
            parts,
        };
        let left = lease.left()?;
        let old = match before {
            Some((document, old)) => {
                self.documents.update(HEADS, &document, &head, left).await?;
                old.parts
            }
            None => {
                self.documents.create(HEADS, &head).await?;
                Vec::new()
            }
        };
        Ok((Saved::Version(version), old))
    }

    /// Deletes the parts of a model that its head does not name.
    async fn sweep(&self, id: &str) -> Result<(), Status> {
        let named = self.head(id).await?.map(|(_, head)| head.parts);
        let parts: Vec<(String, serde_json::Value)> =
            self.documents.query(PARTS, json!({"model": id})).await?;
        for (part, _) in parts {
            if !named.as_ref().is_some_and(|named| named.contains(&part)) {
                self.documents.delete(PARTS, &part).await?;
            }
        }
        Ok(())
    }

    /// `None` if a part no longer exists.
    async fn bytes(&self, head: &Head) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = Vec::new();
        for part in &head.parts {
            let Some(part) = self.documents.read::<Part>(PARTS, part).await? else {
                return Ok(None);
            };
            let data = BASE64.decode(part.data);
            bytes.extend(data.map_err(|error| damaged(&head.model, error))?);
        }
        Ok(Some(bytes))
    }

    async fn head(&self, id: &str) -> Result<Option<(String, Head)>, Status> {
        let filter = json!({"kind": "head", "model": id});
        let heads: Vec<(String, Head)> = self.documents.query(HEADS, filter).await?;
        Ok(heads.into_iter().max_by_key(|(_, head)| head.version))
    }
}

/// What is stored of a model cannot be read; the cause is logged and not sent.
pub(crate) fn damaged(id: &str, cause: impl Display) -> Problem {
    tracing::error!(model = id, %cause, "a stored model is damaged");
    let message = format!("the stored model `{id}` is damaged; train a model with another id");
    Problem::new(Code::DataLoss, "MODEL_DAMAGED", message).with("model", id)
}

#[cfg(test)]
mod tests {
    use database_server::{Indexes, Location, Store};
    use serving::CancellationToken;
    use serving::testing::Authority;

    use super::*;

    const LEASES: &str = "ai-model-claims";

    async fn store(folder: &tempfile::TempDir, shutdown: &CancellationToken) -> ModelStore {
        let authority = Authority::default();
        let (service, listener) = authority.service("database-server").await;
        let database = authority.dependency("database-server", service.listen);
        let store = Store::open(
            &Location::File(folder.path().join("store")),
            Indexes::default(),
        )
        .await
        .unwrap();
        let stop = shutdown.clone();
        tokio::spawn(async move { database_server::serve(listener, &service, store, stop).await });
        ModelStore {
            documents: Documents::new(&database),
            term: Duration::from_secs(20),
        }
    }

    async fn count(store: &ModelStore, collection: &str) -> usize {
        let found = store
            .documents
            .query::<serde_json::Value>(collection, json!({}))
            .await;
        found.unwrap().len()
    }

    #[tokio::test]
    async fn one_of_concurrent_saves_wins_and_the_others_are_behind() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new().drop_guard();
        let store = store(&folder, shutdown.token()).await;
        let bytes = format::encode(&Model::default()).unwrap();
        for base in 0..3 {
            let saves = (0..5).map(|_| store.save("model", &bytes, base));
            let outcomes = futures::future::join_all(saves).await;
            let won = Saved::Version(base + 1);
            let winners = outcomes
                .iter()
                .filter(|outcome| *outcome.as_ref().unwrap() == won)
                .count();
            assert_eq!(winners, 1, "{outcomes:?}");
        }
        assert_eq!(store.version("model").await.unwrap(), Some(3));
        assert_eq!(count(&store, PARTS).await, 1);
        assert_eq!(count(&store, LEASES).await, 0);
    }

    #[tokio::test]
    async fn a_damaged_model_is_data_loss_and_others_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new().drop_guard();
        let store = store(&folder, shutdown.token()).await;
        let whole = format::encode(&Model::default()).unwrap();
        store.save("whole", &whole, 0).await.unwrap();
        let cut = &whole[..whole.len() / 2];
        store.save("cut", cut, 0).await.unwrap();
        let head = json!({"kind": "head", "model": "partless", "version": 1, "parts": ["none"]});
        store.documents.create(HEADS, &head).await.unwrap();
        for id in ["cut", "partless"] {
            let status = store.load(id).await.unwrap_err();
            assert_eq!(status.code(), Code::DataLoss, "{status:?}");
            assert!(status.message().contains(id), "{status:?}");
        }
        assert!(store.load("whole").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_parts_of_a_dead_replica_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new().drop_guard();
        let mut store = store(&folder, shutdown.token()).await;
        store.term = Duration::from_secs(4);
        let lease = json!({"model": "model"});
        store.documents.create(LEASES, &lease).await.unwrap();
        let part = json!({"model": "model", "version": 1, "data": ""});
        store.documents.create(PARTS, &part).await.unwrap();

        let mut model = Model::default();
        model.learn(&crate::model::tests::news(3)).unwrap();
        format::settle(&mut model);
        let bytes = format::encode(&model).unwrap();
        let saved = store.save("model", &bytes, 0).await.unwrap();
        assert_eq!(saved, Saved::Version(1));
        assert_eq!(count(&store, PARTS).await, 1);
        assert_eq!(count(&store, LEASES).await, 0);
        let stored = store.load("model").await.unwrap().unwrap();
        assert_eq!((stored.model, stored.version), (model, 1));
    }
}
