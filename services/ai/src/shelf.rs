//! Where models are kept: documents of the database service.
//!
//! ```text
//! ai-models       {"kind": "head", "model": ID, "version": N, "parts": [ID...]}   what counts, replaced at a stroke
//! ai-model-parts  {"model": ID, "version": N, "data": BASE64}                     as many as it takes
//! ```
//! A model is replaced under a [`Claim`], and only by what was made from the version that is there: no replica's
//! training is lost without its knowing. A save that breaks off leaves parts that no head names; they are swept when
//! its claim is found to be dead.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serving::{Dependency, Problem};
use tonic::Status;

use crate::claim::Claim;
use crate::documents::Documents;
use crate::format;
use crate::model::Model;

const HEADS: &str = "ai-models";
const PARTS: &str = "ai-model-parts";
/// Of compressed bytes; base64 makes a third more of it.
const PART: usize = 2 * 1024 * 1024;
/// How long storing a model may take before others take the replica for dead.
const LEASE: Duration = Duration::from_secs(60);
/// A head may be replaced while its parts are being read.
const READS: usize = 3;

/// The database service, as a place for models.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    pub(crate) documents: Documents,
    lease: Duration,
}

/// A model and the number of its version; the first is 1.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) model: Model,
    pub(crate) version: u64,
}

/// What came of a save.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    Version(u64),
    /// Another replica stored a version meanwhile: nothing was changed.
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

impl Shelf {
    pub(crate) fn new(database: &Dependency) -> Self {
        Self {
            documents: Documents::new(database),
            lease: LEASE,
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

    /// Reads a model if it is there.
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
                .map_err(|error| Problem::internal("decoding a model failed", error))?
                .map_err(|error| damaged(&format!("{error:#}")))?;
            return Ok(Some(Stored {
                model,
                version: head.version,
            }));
        }
        Err(damaged(&"parts that its head names are missing"))
    }

    /// Replaces version `base` of a model (0 where there is none), unless another is there.
    pub(crate) async fn save(&self, id: &str, bytes: &[u8], base: u64) -> Result<Saved, Status> {
        let claim = Claim::obtain(&self.documents, id, self.lease).await?;
        let sweep = claim.after_death;
        let outcome = self.replace(id, bytes, base, &claim).await;
        // A failure may have left parts: the claim stays, so that whoever finds it dead sweeps them.
        if outcome.is_ok() {
            claim.release(&self.documents).await;
        }
        let (saved, old) = outcome?;
        let swept = async {
            for part in old {
                self.documents.delete(PARTS, &part).await?;
            }
            if sweep { self.sweep(id).await } else { Ok(()) }
        };
        if let Err(error) = swept.await {
            tracing::warn!(model = id, %error, "parts of an earlier version are left");
        }
        Ok(saved)
    }

    /// Returns the parts that are of no use any more, too.
    async fn replace(
        &self,
        id: &str,
        bytes: &[u8],
        base: u64,
        claim: &Claim,
    ) -> Result<(Saved, Vec<String>), Status> {
        let before = self.head(id).await?;
        if before.as_ref().map_or(0, |(_, head)| head.version) != base {
            return Ok((Saved::Behind, Vec::new()));
        }
        let version = base + 1;
        let mut parts = Vec::new();
        for chunk in bytes.chunks(PART) {
            claim.left()?;
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
        let left = claim.left()?;
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

    /// Removes the parts of a model that its head doesn't name.
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

    /// `None` where a part is gone.
    async fn bytes(&self, head: &Head) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = Vec::new();
        for part in &head.parts {
            let Some(part) = self.documents.read::<Part>(PARTS, part).await? else {
                return Ok(None);
            };
            bytes.extend(BASE64.decode(part.data).map_err(|error| damaged(&error))?);
        }
        Ok(Some(bytes))
    }

    async fn head(&self, id: &str) -> Result<Option<(String, Head)>, Status> {
        let filter = json!({"kind": "head", "model": id});
        let heads: Vec<(String, Head)> = self.documents.query(HEADS, filter).await?;
        Ok(heads.into_iter().max_by_key(|(_, head)| head.version))
    }
}

fn damaged(cause: &dyn std::fmt::Display) -> Status {
    Problem::internal("a stored model is damaged", cause).into()
}

#[cfg(test)]
mod tests {
    use database_server::{Indexes, Location, Store};
    use serving::CancellationToken;
    use serving::testing::Authority;

    use super::*;

    const CLAIMS: &str = "ai-model-claims";

    async fn shelf(folder: &tempfile::TempDir, shutdown: &CancellationToken) -> Shelf {
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
        Shelf {
            documents: Documents::new(&database),
            lease: Duration::from_secs(20),
        }
    }

    async fn count(shelf: &Shelf, collection: &str) -> usize {
        let found = shelf
            .documents
            .query::<serde_json::Value>(collection, json!({}))
            .await;
        found.unwrap().len()
    }

    #[tokio::test]
    async fn one_of_many_saves_at_once_wins_and_the_rest_know() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new().drop_guard();
        let shelf = shelf(&folder, shutdown.token()).await;
        let bytes = format::encode(&Model::default()).unwrap();
        for base in 0..3 {
            let saves = (0..5).map(|_| shelf.save("model", &bytes, base));
            let outcomes = futures::future::join_all(saves).await;
            let won = Saved::Version(base + 1);
            let winners = outcomes
                .iter()
                .filter(|outcome| *outcome.as_ref().unwrap() == won)
                .count();
            assert_eq!(winners, 1, "{outcomes:?}");
        }
        assert_eq!(shelf.version("model").await.unwrap(), Some(3));
        assert_eq!(count(&shelf, PARTS).await, 1);
        assert_eq!(count(&shelf, CLAIMS).await, 0);
    }

    #[tokio::test]
    async fn what_a_dead_replica_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new().drop_guard();
        let mut shelf = shelf(&folder, shutdown.token()).await;
        shelf.lease = Duration::from_secs(4);
        let claim = json!({"model": "model"});
        shelf.documents.create(CLAIMS, &claim).await.unwrap();
        let part = json!({"model": "model", "version": 1, "data": ""});
        shelf.documents.create(PARTS, &part).await.unwrap();

        let mut model = Model::default();
        model.learn(&crate::model::tests::news(3)).unwrap();
        format::settle(&mut model);
        let bytes = format::encode(&model).unwrap();
        let saved = shelf.save("model", &bytes, 0).await.unwrap();
        assert_eq!(saved, Saved::Version(1));
        assert_eq!(count(&shelf, PARTS).await, 1);
        assert_eq!(count(&shelf, CLAIMS).await, 0);
        let stored = shelf.load("model").await.unwrap().unwrap();
        assert_eq!((stored.model, stored.version), (model, 1));
    }
}
