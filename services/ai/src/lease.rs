//! A lease on a model: the right to replace it, which one replica has at a time.
//!
//! The database service has no compare-and-set, so replicas use documents, one for each lease:
//!
//! 1. Wait until the model has no lease document.
//! 2. Create one.
//! 3. Read the model's lease documents again. If there is no other, the lease is held: every later replica sees its
//!    document in step 1 or 3.
//! 4. If there are others, two replicas were in step 2 at the same time. Delete the own document, pause for a random
//!    time, and continue with step 1.
//! 5. Replace the model, and delete the document.
//!
//! A replica that dies leaves its document. Another replica that sees the same document for a whole term, by its own
//! clock, deletes it and takes over. So a holder stops using its lease before the term ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serving::Problem;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::documents::Documents;

const COLLECTION: &str = "ai-model-claims";
/// Between two attempts, in milliseconds: random, so that two replicas do not collide again.
const PAUSE: std::ops::Range<u64> = 20..200;
/// How many terms to wait for the lease.
const MOST_TERMS: u32 = 3;
/// The part of a term that a holder may use, in quarters. The rest is for calls in progress.
const USABLE: u32 = 3;

/// The right to replace a model, for a limited time.
#[derive(Debug)]
pub(crate) struct Lease {
    id: String,
    until: Instant,
    /// Whether an earlier holder died: it may have left parts of a model.
    pub(crate) took_over: bool,
}

impl Lease {
    /// Waits for the lease on a model; `term` is how long a replica may hold it.
    pub(crate) async fn obtain(
        documents: &Documents,
        model: &str,
        term: Duration,
    ) -> Result<Self, Status> {
        let began = Instant::now();
        let mut seen: HashMap<String, Instant> = HashMap::new();
        let mut took_over = false;
        while began.elapsed() < term * MOST_TERMS {
            if others(documents, model, "").await?.is_empty() {
                let until = Instant::now() + term * USABLE / 4;
                let id = documents
                    .create(COLLECTION, &json!({"model": model}))
                    .await?;
                if others(documents, model, &id).await?.is_empty() {
                    return Ok(Self {
                        id,
                        until,
                        took_over,
                    });
                }
                documents.delete(COLLECTION, &id).await?;
            }
            let others = others(documents, model, "").await?;
            seen.retain(|id, _| others.contains(id));
            for id in others {
                let since = seen.entry(id.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= term {
                    tracing::warn!(
                        model,
                        "took over the lease of a replica that died while it stored the model"
                    );
                    documents.delete(COLLECTION, &id).await?;
                    took_over = true;
                }
            }
            sleep(Duration::from_millis(fastrand::u64(PAUSE))).await;
        }
        let message = format!("other replicas keep storing model `{model}`");
        Err(Problem::new(Code::Aborted, "MODEL_BUSY", message)
            .retry_after(term)
            .into())
    }

    /// The time left to use the lease; an error if there is none.
    pub(crate) fn left(&self) -> Result<Duration, Status> {
        match self.until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => {
                let message = "storing the model took too long: nothing was changed";
                Err(Problem::new(Code::Aborted, "MODEL_BUSY", message)
                    .retry_after(Duration::from_secs(1))
                    .into())
            }
        }
    }

    /// Ends the lease, so that other replicas can obtain it.
    pub(crate) async fn release(self, documents: &Documents) {
        if let Err(error) = documents.delete(COLLECTION, &self.id).await {
            tracing::warn!(%error, "failed to release a lease: other replicas wait until its term ends");
        }
    }
}

async fn others(documents: &Documents, model: &str, own: &str) -> Result<Vec<String>, Status> {
    let leases = documents
        .query::<Value>(COLLECTION, json!({"model": model}))
        .await?;
    Ok(leases
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| id != own)
        .collect())
}
