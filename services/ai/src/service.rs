//! `ai.AiService`: checks requests, trains, predicts, reports.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt as _;
use jiff::Timestamp;
use pspd_proto::ai::ai_service_server::AiService;
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use serving::{CancellationToken, Problem};
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::IntervalStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::format;
use crate::model::{LABELS, Model, TooManyLabels};
use crate::registry::{Entry, Registry};

const DEFAULT_MODEL: &str = "default";
const LONGEST_LABEL: usize = 128;
/// How long a training stream may pause: others wait for the same model.
const TRAINING_PAUSE: Duration = Duration::from_secs(30);
/// How many examples are learned before other tasks have their turn.
const TURN: u32 = 64;

/// The service over one registry.
#[derive(Debug)]
pub(crate) struct Ai {
    registry: Arc<Registry>,
    shutdown: CancellationToken,
}

impl Ai {
    pub(crate) fn new(registry: Arc<Registry>, shutdown: CancellationToken) -> Self {
        Self { registry, shutdown }
    }

    async fn model(&self, id: &str) -> Result<(Arc<Entry>, Arc<Model>), Status> {
        let entry = self.registry.entry(id).await?;
        match entry.current() {
            Some(model) => Ok((entry, model)),
            None => Err(unknown(id)),
        }
    }
}

#[tonic::async_trait]
impl AiService for Ai {
    async fn predict(
        &self,
        request: Request<PredictRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        let PredictRequest {
            input_data,
            model_id,
        } = request.into_inner();
        let id = check_model_id(&model_id)?;
        check_text("input_data", &input_data)?;
        let (entry, model) = self.model(id).await?;
        let prediction = model.predict(&input_data).ok_or_else(|| unknown(id))?;
        entry.count(prediction.confidence);
        Ok(Response::new(PredictResponse {
            prediction: prediction.label.to_owned(),
            confidence: prediction.confidence,
        }))
    }

    async fn train_model(
        &self,
        request: Request<Streaming<TrainingData>>,
    ) -> Result<Response<TrainingStatus>, Status> {
        let id = check_model_id(metadata(request.metadata(), "model-id")?.unwrap_or_default())?
            .to_owned();
        let entry = self.registry.entry(&id).await?;
        let _turn = entry.train().await;
        let model = entry
            .current()
            .map_or_else(Model::default, |model| (*model).clone());
        let model = learn(model, request.into_inner()).await?;
        let (model, bytes) = tokio::task::spawn_blocking(move || {
            let bytes = format::encode(&model);
            (model, bytes)
        })
        .await
        .map_err(|error| Problem::internal("encoding the model failed", error))?;
        let bytes = bytes.map_err(|error| Problem::internal("encoding the model failed", error))?;
        tracing::info!(
            model = id,
            examples = model.examples,
            bytes = bytes.len(),
            "trained"
        );
        self.registry.shelf().save(&id, bytes).await?;
        let status = TrainingStatus {
            accuracy: model.accuracy(),
            iterations: i32::try_from(model.examples).unwrap_or(i32::MAX),
            model_id: id.clone(),
        };
        entry.replace(model);
        self.registry.keep(&id, &entry);
        Ok(Response::new(status))
    }

    type MonitorModelStream = Pin<Box<dyn Stream<Item = Result<ModelMetrics, Status>> + Send>>;

    async fn monitor_model(
        &self,
        request: Request<ModelIdentifier>,
    ) -> Result<Response<Self::MonitorModelStream>, Status> {
        let period = check_interval(metadata(request.metadata(), "interval-ms")?)?;
        let ModelIdentifier { model_id } = request.into_inner();
        let (entry, _) = self.model(check_model_id(&model_id)?).await?;
        let ticks = IntervalStream::new(interval(period));
        let metrics = ticks
            .map(move |_| Ok(metrics(&entry)))
            .take_until(self.shutdown.clone().cancelled_owned());
        Ok(Response::new(Box::pin(metrics)))
    }
}

async fn learn(mut model: Model, mut stream: Streaming<TrainingData>) -> Result<Model, Status> {
    let mut learned = 0_u32;
    loop {
        let example = timeout(TRAINING_PAUSE, stream.message())
            .await
            .map_err(|_| {
                let message = format!("no example came for {} s", TRAINING_PAUSE.as_secs());
                Status::from(Problem::new(
                    Code::DeadlineExceeded,
                    "TRAINING_STALLED",
                    message,
                ))
            })??;
        let Some(TrainingData {
            input,
            expected_output,
        }) = example
        else {
            break;
        };
        check_text("input", &input)?;
        check_label(&expected_output)?;
        model
            .learn(&input, &expected_output)
            .map_err(|TooManyLabels| {
                let message = format!("a model has {LABELS} labels at most");
                Status::from(Problem::invalid(
                    "expected_output",
                    "TOO_MANY_LABELS",
                    message,
                ))
            })?;
        learned += 1;
        if learned.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    if learned == 0 {
        let message = "the training stream holds no example";
        return Err(Problem::invalid("input", "NO_EXAMPLES", message).into());
    }
    Ok(model)
}

fn metrics(entry: &Entry) -> ModelMetrics {
    let usage = entry.usage();
    ModelMetrics {
        current_accuracy: entry.current().map_or(0.0, |model| model.accuracy()),
        predictions_made: i32::try_from(usage.predictions).unwrap_or(i32::MAX),
        average_confidence: usage.average_confidence(),
        timestamp: Timestamp::now().to_string(),
    }
}

fn metadata<'a>(metadata: &'a MetadataMap, key: &str) -> Result<Option<&'a str>, Status> {
    let value = metadata.get(key).map(|value| value.to_str()).transpose();
    value.map_err(|_| {
        Problem::invalid(key, "METADATA_MALFORMED", format!("`{key}` is not text")).into()
    })
}

fn check_model_id(id: &str) -> Result<&str, Status> {
    let valid = id.len() <= 64
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    match (id, valid) {
        ("", _) => Ok(DEFAULT_MODEL),
        (id, true) => Ok(id),
        (id, false) => {
            let message = format!(
                "`{id}` is not a model's id: use 1 to 64 of letters, digits, `_`, `-` and `.`"
            );
            Err(Problem::invalid("model_id", "MODEL_ID_INVALID", message).into())
        }
    }
}

fn check_text(field: &str, text: &str) -> Result<(), Status> {
    if text.trim().is_empty() {
        return Err(Problem::invalid(field, "TEXT_EMPTY", "the text is empty").into());
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), Status> {
    if label.trim().is_empty() || label.len() > LONGEST_LABEL {
        let message = format!("the label must have 1 to {LONGEST_LABEL} bytes");
        return Err(Problem::invalid("expected_output", "LABEL_INVALID", message).into());
    }
    Ok(())
}

fn check_interval(value: Option<&str>) -> Result<Duration, Status> {
    let milliseconds = value.map_or(Ok(1000), str::parse::<u64>);
    match milliseconds {
        Ok(milliseconds @ 100..=60_000) => Ok(Duration::from_millis(milliseconds)),
        _ => {
            let message = "`interval-ms` must be a number from 100 to 60000";
            Err(Problem::invalid("interval-ms", "INTERVAL_INVALID", message).into())
        }
    }
}

fn unknown(id: &str) -> Status {
    let message = format!("there is no model `{id}`: train it first");
    Problem::missing("model", id, "MODEL_NOT_FOUND", message).into()
}
