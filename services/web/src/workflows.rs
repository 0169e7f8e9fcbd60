//! Operations that need more than one backend or more than one call: classify and store, upload, ingest.
//!
//! The documents that they create are `{"text", "label", "confidence", "model_id"}`.

use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use pspd_proto::business::{
    ClassifiedDocument, ClassifyRequest, Failure, IngestResult, UploadFailure, UploadRequest,
    UploadResponse, ingest_result::Outcome,
};
use serde_json::json;
use serving::{CancellationToken, refuse_oversized};
use tonic::Status;

use crate::backends::Backends;
use crate::catalog::Catalog;
use crate::counts::Counter;
use crate::deadline::Deadline;
use crate::history::History;

pub(crate) const DEFAULT_COLLECTION: &str = "documents";
pub(crate) const DEFAULT_MODEL: &str = "default";
/// How many documents of one ingest are processed at a time; further documents wait in the transport's flow control.
const INGESTED_AT_ONCE: usize = 16;
/// Many, because the database writes concurrent documents together.
const UPLOADED_AT_ONCE: usize = 64;
const MOST_FAILURES: usize = 100;

/// The operations over both backends, for one caller or for the service itself.
#[derive(Debug, Clone)]
pub(crate) struct Workflows {
    pub(crate) backends: Backends,
    pub(crate) shutdown: CancellationToken,
    pub(crate) counter: Counter,
    pub(crate) catalog: Catalog,
    pub(crate) history: History,
    /// The backends without a caller's deadline, for work that outlives a call.
    pub(crate) own: Arc<Backends>,
}

impl Workflows {
    pub(crate) fn new(backends: Backends, shutdown: CancellationToken) -> Self {
        Self {
            own: Arc::new(backends.clone()),
            backends,
            shutdown,
            counter: Counter::default(),
            catalog: Catalog::default(),
            history: History::default(),
        }
    }

    /// The same workflows for a caller with a deadline.
    pub(crate) fn until(&self, deadline: Deadline) -> Self {
        Self {
            backends: self.backends.until(deadline),
            ..self.clone()
        }
    }

    /// Stores a document and returns its id.
    pub(crate) async fn create(&self, collection: &str, data: String) -> Result<String, Status> {
        let id = self.backends.create(collection, data).await?;
        self.catalog.note(&self.own, collection);
        Ok(id)
    }

    /// The collections that are known to have documents.
    pub(crate) async fn collections(&self) -> Result<Vec<String>, Status> {
        self.catalog.list(&self.backends).await
    }

    /// Predicts a text's label and, if requested, stores both.
    pub(crate) async fn classify(
        &self,
        request: ClassifyRequest,
        store: bool,
    ) -> Result<ClassifiedDocument, Status> {
        let collection = or(request.collection, DEFAULT_COLLECTION);
        let model_id = or(request.model_id, DEFAULT_MODEL);
        let prediction = self.backends.predict(&request.text, &model_id).await?;
        let mut id = String::new();
        if store {
            let data = json!({
                "text": request.text,
                "label": prediction.prediction,
                "confidence": prediction.confidence,
                "model_id": model_id,
            });
            id = self.create(&collection, data.to_string()).await?;
        }
        Ok(ClassifiedDocument {
            id,
            collection,
            text: request.text,
            label: prediction.prediction,
            confidence: prediction.confidence,
            model_id,
            reference: request.reference,
        })
    }

    /// Classifies and stores documents as they arrive. If the caller does not read results, the next documents wait.
    pub(crate) fn ingest(
        self,
        documents: impl Stream<Item = Result<ClassifyRequest, Status>> + Send,
    ) -> impl Stream<Item = Result<IngestResult, Status>> + Send {
        let results = documents.map(move |document| {
            let workflows = self.clone();
            async move {
                let document = document.map_err(refuse_oversized)?;
                let reference = document.reference.clone();
                let outcome = match workflows.classify(document, true).await {
                    Ok(document) => Outcome::Document(document),
                    Err(status) => Outcome::Failure(failure(&status)),
                };
                Ok(IngestResult {
                    reference,
                    outcome: Some(outcome),
                })
            }
        });
        results.buffer_unordered(INGESTED_AT_ONCE)
    }

    /// Stores documents as they arrive, and counts successes and failures.
    pub(crate) async fn upload(
        &self,
        documents: impl Stream<Item = Result<UploadRequest, Status>> + Send,
    ) -> Result<UploadResponse, Status> {
        let stored = documents.map(|document| async move {
            let UploadRequest {
                collection,
                data,
                reference,
            } = document?;
            let collection = or(collection, DEFAULT_COLLECTION);
            let outcome = self.create(&collection, data).await;
            Ok::<_, Status>(outcome.err().map(|status| UploadFailure {
                reference,
                failure: Some(failure(&status)),
            }))
        });
        let counted = stored.buffer_unordered(UPLOADED_AT_ONCE).try_fold(
            UploadResponse::default(),
            |mut sum, failed| async move {
                match failed {
                    None => sum.stored += 1,
                    Some(failed) => {
                        sum.failed += 1;
                        if sum.failures.len() < MOST_FAILURES {
                            sum.failures.push(failed);
                        }
                    }
                }
                Ok(sum)
            },
        );
        counted.await
    }
}

fn failure(status: &Status) -> Failure {
    Failure {
        code: status.code().into(),
        message: status.message().to_owned(),
    }
}

/// `value`, or `default` if it is empty.
pub(crate) fn or(value: String, default: &str) -> String {
    if value.is_empty() {
        default.to_owned()
    } else {
        value
    }
}
