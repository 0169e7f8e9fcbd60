//! The collections that this service knows. The database's contract has no way to list them.
//!
//! Each is a document `{"name"}` of the collection `web-collections`, so the list survives restarts and is shared by
//! shared by replicas.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use serving::trace;
use tonic::Status;

use crate::backends::Backends;

const COLLECTION: &str = "web-collections";
const MOST: u32 = 1000;

/// The known collections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    noted: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
}

impl Catalog {
    /// Records in the background that a collection has documents.
    pub(crate) fn note(&self, backends: &Backends, collection: &str) {
        if collection == COLLECTION || !self.noted().insert(collection.to_owned()) {
            return;
        }
        let (catalog, backends) = (self.clone(), backends.clone());
        let name = collection.to_owned();
        let noting = async move {
            if let Err(error) = write(&backends, &name).await {
                tracing::warn!(collection = name, %error, "failed to record the collection");
                catalog.noted().remove(&name);
            }
        };
        tokio::spawn(trace::current().scope(noting));
    }

    /// All known collections in alphabetical order.
    pub(crate) async fn list(&self, backends: &Backends) -> Result<Vec<String>, Status> {
        let query = json!({"$limit": MOST}).to_string();
        let mut documents = backends.query(COLLECTION, query).await?;
        let mut names = BTreeSet::new();
        while let Some(document) = documents.next().await? {
            if let Ok(Entry { name }) = serde_json::from_str(&document.data) {
                names.insert(name);
            }
        }
        names.extend(self.noted().iter().cloned());
        Ok(names.into_iter().collect())
    }

    fn noted(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(backends: &Backends, name: &str) -> Result<(), Status> {
    let entry = json!({"name": name}).to_string();
    let mut same = backends.query(COLLECTION, entry.clone()).await?;
    if same.next().await?.is_none() {
        backends.create(COLLECTION, entry).await?;
    }
    Ok(())
}
