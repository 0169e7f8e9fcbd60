//! What takes more than one backend: classify and store, train from what is stored, sum up the system.
//!
//! Documents made here are `{"text", "label", "confidence", "model_id"}`; those used for training have at least
//! `text` and `label`.

use std::collections::HashMap;
use std::future::Future;

use jiff::Timestamp;
use pspd_proto::ai::{TrainingData, TrainingStatus};
use pspd_proto::business::{
    ClassifiedDocument, ClassifyRequest, Summary, TrainRequest, TrainResponse,
};
use pspd_proto::database::QueryResponse;
use serde::Deserialize;
use serde_json::json;
use serving::trace;
use serving::{CancellationToken, Problem};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::backends::Backends;

pub(crate) const DEFAULT_COLLECTION: &str = "documents";
pub(crate) const DEFAULT_MODEL: &str = "default";
const EXAMPLES_AHEAD: usize = 64;

/// The workflows over both backends.
#[derive(Debug, Clone)]
pub(crate) struct Workflows {
    pub(crate) backends: Backends,
    pub(crate) shutdown: CancellationToken,
}

#[derive(Deserialize)]
struct Labelled {
    text: Option<String>,
    label: Option<String>,
}

impl Workflows {
    pub(crate) fn new(backends: Backends, shutdown: CancellationToken) -> Self {
        Self { backends, shutdown }
    }

    /// Predicts a text's label and, if asked to, stores both.
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
            id = self.backends.create(&collection, data.to_string()).await?;
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

    /// Trains a model with every stored document that has a text and a label.
    pub(crate) async fn train_from(&self, request: TrainRequest) -> Result<TrainResponse, Status> {
        let collection = or(request.collection, DEFAULT_COLLECTION);
        let model_id = or(request.model_id, DEFAULT_MODEL);
        let query = json!({"text": {"$gt": ""}, "label": {"$gt": ""}}).to_string();
        let mut documents = self.backends.query(&collection, query).await?;
        let Some(first) = documents.next().await? else {
            let message = format!("`{collection}` holds no document with a `text` and a `label`");
            return Err(Problem::new(Code::FailedPrecondition, "NO_EXAMPLES", message).into());
        };
        let (examples, stream) = mpsc::channel(EXAMPLES_AHEAD);
        let keep_open = examples.clone();
        let read = async move {
            let mut next = Some(first);
            let mut count = 0;
            while let Some(document) = next {
                if examples.send(example(&document)?).await.is_err() {
                    break;
                }
                count += 1;
                next = documents.next().await?;
            }
            Ok::<i32, Status>(count)
        };
        let training = self.backends.train(&model_id, ReceiverStream::new(stream));
        let (examples, status) = read_and_train(read, training, keep_open).await?;
        Ok(TrainResponse {
            model_id: status.model_id,
            accuracy: status.accuracy,
            examples,
        })
    }

    /// Trains a model with given examples.
    pub(crate) async fn train(
        &self,
        model_id: &str,
        data: Vec<TrainingData>,
    ) -> Result<TrainResponse, Status> {
        let examples = i32::try_from(data.len()).unwrap_or(i32::MAX);
        let status = self
            .backends
            .train(model_id, tokio_stream::iter(data))
            .await?;
        Ok(TrainResponse {
            model_id: status.model_id,
            accuracy: status.accuracy,
            examples,
        })
    }

    /// Sums up both backends; what one can't tell now is left out, and its state says why.
    pub(crate) async fn summary(&self, collection: &str, model_id: &str) -> Summary {
        let collection = if collection.is_empty() {
            DEFAULT_COLLECTION
        } else {
            collection
        };
        let model_id = if model_id.is_empty() {
            DEFAULT_MODEL
        } else {
            model_id
        };
        let (backends, counted, metrics) = tokio::join!(
            self.backends.states(),
            self.count(collection),
            self.backends.metrics(model_id),
        );
        let (documents, documents_by_label) = counted.unwrap_or_default();
        let metrics = metrics.unwrap_or_default();
        Summary {
            backends,
            documents,
            documents_by_label,
            model_accuracy: metrics.current_accuracy,
            predictions_made: metrics.predictions_made,
            average_confidence: metrics.average_confidence,
            timestamp: Timestamp::now().to_string(),
        }
    }

    async fn count(&self, collection: &str) -> Result<(u64, HashMap<String, u64>), Status> {
        let mut documents = self.backends.query(collection, String::new()).await?;
        let (mut total, mut by_label) = (0, HashMap::new());
        while let Some(document) = documents.next().await? {
            total += 1;
            if let Ok(Labelled {
                label: Some(label), ..
            }) = serde_json::from_str(&document.data)
            {
                *by_label.entry(label).or_default() += 1;
            }
        }
        Ok((total, by_label))
    }
}

/// Joins the reader of examples with the training that takes them. The stream's last sender closes only once all
/// were read: when reading fails, the call is dropped instead, and the model stays as it was.
async fn read_and_train(
    read: impl Future<Output = Result<i32, Status>>,
    training: impl Future<Output = Result<TrainingStatus, Status>>,
    keep_open: mpsc::Sender<TrainingData>,
) -> Result<(i32, TrainingStatus), Status> {
    let read = async {
        let count = read.await?;
        drop(keep_open);
        Ok::<i32, Status>(count)
    };
    tokio::pin!(read, training);
    tokio::select! {
        biased;
        status = &mut training => Ok((read.await.unwrap_or_default(), status?)),
        count = &mut read => Ok((count?, training.await?)),
    }
}

fn example(document: &QueryResponse) -> Result<TrainingData, Status> {
    match serde_json::from_str(&document.data) {
        Ok(Labelled {
            text: Some(input),
            label: Some(expected_output),
        }) => Ok(TrainingData {
            input,
            expected_output,
        }),
        _ => Err(
            Problem::internal("a stored document can't be read", trace::current().trace_id).into(),
        ),
    }
}

/// `value`, or `default` where it is empty.
pub(crate) fn or(value: String, default: &str) -> String {
    if value.is_empty() {
        default.to_owned()
    } else {
        value
    }
}
