//! `business.BusinessService`: the workflows' gRPC face.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use pspd_proto::business::business_service_server::BusinessService;
use pspd_proto::business::{
    ClassifiedDocument, ClassifyRequest, Failure, IngestResult, Summary, SummaryRequest,
    TrainRequest, TrainResponse, ingest_result::Outcome,
};
use serving::trace;
use tonic::{Request, Response, Status, Streaming};

use crate::workflows::Workflows;

/// How many documents of one ingest are worked on at once; more wait in the transport's flow control.
const AT_ONCE: usize = 16;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

/// The service over the workflows.
#[derive(Debug, Clone)]
pub(crate) struct Business {
    workflows: Workflows,
}

impl Business {
    pub(crate) fn new(workflows: Workflows) -> Self {
        Self { workflows }
    }
}

type Results<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl BusinessService for Business {
    async fn classify_and_store(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifiedDocument>, Status> {
        let document = self.workflows.classify(request.into_inner(), true).await?;
        Ok(Response::new(document))
    }

    type WatchSummaryStream = Results<Summary>;

    async fn watch_summary(
        &self,
        request: Request<SummaryRequest>,
    ) -> Result<Response<Results<Summary>>, Status> {
        let summaries = summaries(self.workflows.clone(), request.into_inner());
        Ok(Response::new(Box::pin(summaries.map(Ok))))
    }

    async fn train_from_stored(
        &self,
        request: Request<TrainRequest>,
    ) -> Result<Response<TrainResponse>, Status> {
        let trained = self.workflows.train_from(request.into_inner()).await?;
        Ok(Response::new(trained))
    }

    type IngestStream = Results<IngestResult>;

    async fn ingest(
        &self,
        request: Request<Streaming<ClassifyRequest>>,
    ) -> Result<Response<Results<IngestResult>>, Status> {
        let workflows = self.workflows.clone();
        let results = request.into_inner().map(move |document| {
            let workflows = workflows.clone();
            async move { Ok(ingest(&workflows, document?).await) }
        });
        Ok(Response::new(Box::pin(results.buffer_unordered(AT_ONCE))))
    }
}

async fn ingest(workflows: &Workflows, document: ClassifyRequest) -> IngestResult {
    let reference = document.reference.clone();
    let outcome = match workflows.classify(document, true).await {
        Ok(document) => Outcome::Document(document),
        Err(status) => Outcome::Failure(Failure {
            code: status.code().into(),
            message: status.message().to_owned(),
        }),
    };
    IngestResult {
        reference,
        outcome: Some(outcome),
    }
}

/// One summary at once, then one an interval until the service stops; one only where the interval is 0.
pub(crate) fn summaries(
    workflows: Workflows,
    request: SummaryRequest,
) -> impl Stream<Item = Summary> + Send {
    let SummaryRequest {
        collection,
        model_id,
        interval_milliseconds,
    } = request;
    let pause = (interval_milliseconds > 0)
        .then(|| Duration::from_millis(interval_milliseconds.into()).max(SHORTEST_INTERVAL));
    let context = trace::current();
    let stopped = workflows.shutdown.clone().cancelled_owned();
    let summaries = stream::unfold(Some(Duration::ZERO), move |wait| {
        let (workflows, collection, model_id) =
            (workflows.clone(), collection.clone(), model_id.clone());
        let summary = async move {
            tokio::time::sleep(wait?).await;
            Some((workflows.summary(&collection, &model_id).await, pause))
        };
        context.clone().scope(summary)
    });
    summaries.take_until(stopped)
}
