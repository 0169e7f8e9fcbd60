//! `business.BusinessService`: the workflows over gRPC.

use futures::{StreamExt as _, stream};
use pspd_proto::business::business_service_server::BusinessService;
use pspd_proto::business::{
    ClassifiedDocument, ClassifyRequest, HistoryRequest, HistoryResponse, IngestResult,
    LearnProgress, LearnRequest, ListCollectionsRequest, ListCollectionsResponse, Summary,
    SummaryRequest, TrainRequest, TrainResponse, UploadBatchRequest, UploadRequest, UploadResponse,
};
use tonic::{Request, Response, Status, Streaming};

use crate::deadline::Deadline;
use crate::in_trace::{Answers, in_trace};
use crate::workflows::{DEFAULT_MODEL, Workflows, or};

/// The service over the workflows.
#[derive(Debug, Clone)]
pub(crate) struct Business {
    workflows: Workflows,
}

impl Business {
    pub(crate) fn new(workflows: Workflows) -> Self {
        Self { workflows }
    }

    /// The workflows for one request's caller.
    fn serve<T>(&self, request: &Request<T>) -> Workflows {
        self.workflows.until(Deadline::of(request.metadata()))
    }
}

#[tonic::async_trait]
impl BusinessService for Business {
    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifiedDocument>, Status> {
        let workflows = self.serve(&request);
        let document = workflows.classify(request.into_inner(), false).await?;
        Ok(serving::answer(document))
    }

    async fn classify_and_store(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifiedDocument>, Status> {
        let workflows = self.serve(&request);
        let document = workflows.classify(request.into_inner(), true).await?;
        Ok(serving::answer(document))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let workflows = self.serve(&request);
        let stored = workflows.upload(request.into_inner()).await?;
        Ok(serving::answer(stored))
    }

    async fn upload_batch(
        &self,
        request: Request<UploadBatchRequest>,
    ) -> Result<Response<UploadResponse>, Status> {
        let workflows = self.serve(&request);
        let UploadBatchRequest {
            collection,
            documents,
        } = request.into_inner();
        let documents = documents.into_iter().enumerate().map(|(position, data)| {
            Ok(UploadRequest {
                collection: collection.clone(),
                data,
                reference: position.to_string(),
            })
        });
        let stored = workflows.upload(stream::iter(documents)).await?;
        Ok(serving::answer(stored))
    }

    type IngestStream = Answers<IngestResult>;

    async fn ingest(
        &self,
        request: Request<Streaming<ClassifyRequest>>,
    ) -> Result<Response<Answers<IngestResult>>, Status> {
        let workflows = self.serve(&request);
        let results = workflows.ingest(request.into_inner());
        Ok(Response::new(in_trace(results)))
    }

    async fn train_from_stored(
        &self,
        request: Request<TrainRequest>,
    ) -> Result<Response<TrainResponse>, Status> {
        let workflows = self.serve(&request);
        let TrainRequest {
            collection,
            model_id,
        } = request.into_inner();
        let trained = workflows.train_from(&collection, &model_id, Default::default());
        Ok(serving::answer(trained.await?))
    }

    type LearnStream = Answers<LearnProgress>;

    async fn learn(
        &self,
        request: Request<LearnRequest>,
    ) -> Result<Response<Answers<LearnProgress>>, Status> {
        let workflows = self.serve(&request);
        let progress = workflows.learn(request.into_inner());
        Ok(Response::new(in_trace(progress)))
    }

    type WatchSummaryStream = Answers<Summary>;

    async fn watch_summary(
        &self,
        request: Request<SummaryRequest>,
    ) -> Result<Response<Answers<Summary>>, Status> {
        let summaries = self.workflows.clone().summaries(request.into_inner());
        Ok(Response::new(in_trace(summaries.map(Ok))))
    }

    async fn history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<HistoryResponse>, Status> {
        let model = or(request.into_inner().model_id, DEFAULT_MODEL);
        Ok(serving::answer(self.workflows.history_of(&model)))
    }

    async fn list_collections(
        &self,
        request: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        let collections = self.serve(&request).collections().await?;
        Ok(serving::answer(ListCollectionsResponse { collections }))
    }
}
