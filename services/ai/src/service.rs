//! `ai.AiService`: checks requests, trains, predicts, reports.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::StreamExt as _;
use jiff::Timestamp;
use pspd_proto::ai::ai_service_server::AiService;
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use serving::CancellationToken;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::IntervalStream;
use tonic::{Request, Response, Status, Streaming};

use crate::learning::Learning;
use crate::model_store::damaged;
use crate::registry::{Entry, Registry};
use crate::request::{self, check_text};
use crate::training;

/// The service over one registry.
#[derive(Debug)]
pub(crate) struct Ai {
    registry: Arc<Registry>,
    learning: Learning,
    shutdown: CancellationToken,
}

impl Ai {
    pub(crate) fn new(
        registry: Arc<Registry>,
        learning: Learning,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            registry,
            learning,
            shutdown,
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
        let id = request::model_id(&model_id)?;
        check_text("input_data", &input_data)?;
        let (entry, stored) = self.registry.open(id).await?;
        let prediction = stored
            .model
            .predict(&input_data)
            .ok_or_else(|| damaged(id, "it has no label"))?;
        entry.count(prediction.confidence);
        Ok(serving::answer(PredictResponse {
            prediction: prediction.label.to_owned(),
            confidence: prediction.confidence,
        }))
    }

    async fn train_model(
        &self,
        request: Request<Streaming<TrainingData>>,
    ) -> Result<Response<TrainingStatus>, Status> {
        let id = request::training_model_id(request.metadata())?.to_owned();
        let training = self.registry.begin(&id);
        let store = self.registry.store();
        let trained = training::train(&id, &training, &self.learning, store, request.into_inner());
        let stored = trained.await?;
        Ok(serving::answer(TrainingStatus {
            model_id: id,
            accuracy: stored.model.accuracy(),
            iterations: i32::try_from(stored.model.examples).unwrap_or(i32::MAX),
        }))
    }

    type MonitorModelStream = Pin<Box<dyn Stream<Item = Result<ModelMetrics, Status>> + Send>>;

    async fn monitor_model(
        &self,
        request: Request<ModelIdentifier>,
    ) -> Result<Response<Self::MonitorModelStream>, Status> {
        let mut ticks = interval(request::interval(request.metadata())?);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let ModelIdentifier { model_id } = request.into_inner();
        let id = request::model_id(&model_id)?.to_owned();
        let (entry, _) = self.registry.open(&id).await?;
        let registry = self.registry.clone();
        let metrics = IntervalStream::new(ticks)
            .map(move |_| {
                registry.follow(&id, &entry);
                Ok(metrics(&entry))
            })
            .take_until(self.shutdown.clone().cancelled_owned());
        Ok(Response::new(Box::pin(metrics)))
    }
}

fn metrics(entry: &Entry) -> ModelMetrics {
    let usage = entry.usage();
    ModelMetrics {
        current_accuracy: entry
            .current()
            .map_or(0.0, |stored| stored.model.accuracy()),
        predictions_made: i32::try_from(usage.predictions).unwrap_or(i32::MAX),
        average_confidence: usage.average_confidence(),
        timestamp: Timestamp::now().to_string(),
    }
}
