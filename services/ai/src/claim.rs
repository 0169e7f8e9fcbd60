//! One replica at a time replaces a model: the database service has no compare-and-set, so each makes a claim first.
//!
//! ```text
//! wait until there is no claim ─> create one ─> alone? ── yes ─> replace ─> delete the claim
//!            ^                                    └ no: delete it, pause, again ┘
//! ```
//! Whoever was alone after its own claim was stored stays so, because any later claimant sees it. Of two that see each
//! other both step back, for different times. A claim that stays for a whole lease is of a replica that died: whoever
//! watched it for so long by its own clock removes it, and a replica that holds a claim gives up before that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serving::Problem;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::documents::Documents;

const COLLECTION: &str = "ai-model-claims";
/// Between two looks, in milliseconds: by chance, so that two replicas don't keep meeting.
const PAUSE: std::ops::Range<u64> = 20..200;
/// How many leases to wait for one's turn.
const PATIENCE: u32 = 3;
/// Of a lease, what a holder may use, in quarters: the rest is for what is under way.
const USABLE: u32 = 3;

/// The right to replace a model.
#[derive(Debug)]
pub(crate) struct Claim {
    id: String,
    until: Instant,
    /// Whether a replica died on the way: it may have left parts of a model.
    pub(crate) after_death: bool,
}

impl Claim {
    /// Waits for the right to replace a model.
    pub(crate) async fn obtain(
        documents: &Documents,
        model: &str,
        lease: Duration,
    ) -> Result<Self, Status> {
        let began = Instant::now();
        let mut seen: HashMap<String, Instant> = HashMap::new();
        let mut after_death = false;
        while began.elapsed() < lease * PATIENCE {
            if others(documents, model, "").await?.is_empty() {
                let until = Instant::now() + lease * USABLE / 4;
                let id = documents
                    .create(COLLECTION, &json!({"model": model}))
                    .await?;
                if others(documents, model, &id).await?.is_empty() {
                    return Ok(Self {
                        id,
                        until,
                        after_death,
                    });
                }
                documents.delete(COLLECTION, &id).await?;
            }
            let others = others(documents, model, "").await?;
            seen.retain(|id, _| others.contains(id));
            for id in others {
                let since = seen.entry(id.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= lease {
                    tracing::warn!(model, "a replica that began to store the model has died");
                    documents.delete(COLLECTION, &id).await?;
                    after_death = true;
                }
            }
            sleep(Duration::from_millis(fastrand::u64(PAUSE))).await;
        }
        let message = format!("other replicas keep storing model `{model}`");
        Err(Problem::new(Code::Aborted, "MODEL_BUSY", message)
            .retry_after(lease)
            .into())
    }

    /// How long the claim may be relied on; an error when it is over.
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

    /// Lets others have their turn.
    pub(crate) async fn release(self, documents: &Documents) {
        if let Err(error) = documents.delete(COLLECTION, &self.id).await {
            tracing::warn!(%error, "a claim is left, which others wait for until its lease is over");
        }
    }
}

async fn others(documents: &Documents, model: &str, own: &str) -> Result<Vec<String>, Status> {
    let claims = documents
        .query::<Value>(COLLECTION, json!({"model": model}))
        .await?;
    Ok(claims
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| id != own)
        .collect())
}
