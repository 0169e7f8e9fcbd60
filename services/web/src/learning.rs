//! Training with progress, from given examples or from stored documents with a text and a label.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use pspd_proto::ai::{TrainingData, TrainingStatus};
use pspd_proto::business::learn_request::Source;
use pspd_proto::business::{Example, LearnProgress, LearnRequest, TrainResponse};
use pspd_proto::database::QueryResponse;
use serde::Deserialize;
use serde_json::json;
use serving::{Problem, trace};
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::workflows::{DEFAULT_COLLECTION, DEFAULT_MODEL, Workflows, or};

const EXAMPLES_AHEAD: usize = 64;
const PROGRESS: Duration = Duration::from_millis(250);

/// The number of examples sent to the AI service.
type Counter = Arc<AtomicI32>;

#[derive(Deserialize)]
struct Labelled {
    text: Option<String>,
    label: Option<String>,
}

impl Workflows {
    /// Trains a model and reports progress; the last message has the result. Stops when its reader does.
    pub(crate) fn learn(
        self,
        request: LearnRequest,
    ) -> impl Stream<Item = Result<LearnProgress, Status>> + Send {
        let (tell, progress) = mpsc::channel(1);
        let learning = async move {
            let counter = Counter::default();
            let training = self.train(request, counter.clone());
            tokio::pin!(training);
            let mut ticks = interval(PROGRESS);
            loop {
                let (message, last) = tokio::select! {
                    () = tell.closed() => return,
                    trained = &mut training => (trained.map(done), true),
                    _ = ticks.tick() => {
                        let examples = counter.load(Ordering::Relaxed);
                        (Ok(LearnProgress { examples, result: None }), false)
                    }
                };
                if tell.send(message).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::spawn(trace::current().scope(learning));
        ReceiverStream::new(progress)
    }

    async fn train(
        &self,
        LearnRequest { model_id, source }: LearnRequest,
        counter: Counter,
    ) -> Result<TrainResponse, Status> {
        match source {
            Some(Source::Examples(examples)) => {
                self.train_with(&model_id, examples.examples, counter).await
            }
            Some(Source::Collection(collection)) => {
                self.train_from(&collection, &model_id, counter).await
            }
            None => {
                let message = "set either `examples` or `collection`";
                Err(Problem::invalid("source", "SOURCE_MISSING", message).into())
            }
        }
    }

    /// Trains a model with the given examples.
    pub(crate) async fn train_with(
        &self,
        model_id: &str,
        examples: Vec<Example>,
        counter: Counter,
    ) -> Result<TrainResponse, Status> {
        let data = stream::iter(examples).map(move |Example { text, label }| {
            counter.fetch_add(1, Ordering::Relaxed);
            TrainingData {
                input: text,
                expected_output: label,
            }
        });
        let counted = data.size_hint().0;
        let status = self
            .backends
            .train(&or(model_id.to_owned(), DEFAULT_MODEL), data)
            .await?;
        Ok(trained(status, counted.try_into().unwrap_or(i32::MAX)))
    }

    /// Trains a model with every stored document that has a text and a label.
    pub(crate) async fn train_from(
        &self,
        collection: &str,
        model_id: &str,
        counter: Counter,
    ) -> Result<TrainResponse, Status> {
        let collection = or(collection.to_owned(), DEFAULT_COLLECTION);
        let model_id = or(model_id.to_owned(), DEFAULT_MODEL);
        let query = json!({"text": {"$gt": ""}, "label": {"$gt": ""}}).to_string();
        let mut documents = self.backends.query(&collection, query).await?;
        let Some(first) = documents.next().await? else {
            let message = format!("`{collection}` has no document with a `text` and a `label`");
            return Err(Problem::new(Code::FailedPrecondition, "NO_EXAMPLES", message).into());
        };
        let (examples, stream) = mpsc::channel(EXAMPLES_AHEAD);
        let keep_open = examples.clone();
        let read = async move {
            let mut next = Some(first);
            while let Some(document) = next {
                if examples.send(example(&document)?).await.is_err() {
                    break;
                }
                counter.fetch_add(1, Ordering::Relaxed);
                next = documents.next().await?;
            }
            Ok::<i32, Status>(counter.load(Ordering::Relaxed))
        };
        let training = self.backends.train(&model_id, ReceiverStream::new(stream));
        let (examples, status) = read_and_train(read, training, keep_open).await?;
        Ok(trained(status, examples))
    }
}

fn trained(status: TrainingStatus, examples: i32) -> TrainResponse {
    TrainResponse {
        model_id: status.model_id,
        accuracy: status.accuracy,
        examples,
    }
}

fn done(result: TrainResponse) -> LearnProgress {
    LearnProgress {
        examples: result.examples,
        result: Some(result),
    }
}

/// Joins the reader of examples with the training that consumes them. The stream's last sender closes only when all
/// examples were read: if reading fails, the call is dropped instead, and the model stays unchanged.
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
            Problem::internal("a stored document is not valid", trace::current().trace_id).into(),
        ),
    }
}
