//! `database.DatabaseService` for browsers: the same contract, forwarded to the database with this service's limits,
//! retries and errors.

use futures::stream;
use pspd_proto::database::database_service_server::DatabaseService;
use pspd_proto::database::{
    CreateRequest, CreateResponse, DeleteRequest, DeleteResponse, QueryRequest, QueryResponse,
    ReadRequest, ReadResponse, UpdateRequest, UpdateResponse,
};
use tonic::{Request, Response, Status};

use crate::deadline::Deadline;
use crate::in_trace::{Answers, in_trace};
use crate::workflows::Workflows;

/// Forwards calls to the database.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    workflows: Workflows,
}

impl Documents {
    pub(crate) fn new(workflows: Workflows) -> Self {
        Self { workflows }
    }

    fn serve<T>(&self, request: &Request<T>) -> Workflows {
        self.workflows.until(Deadline::of(request.metadata()))
    }
}

#[tonic::async_trait]
impl DatabaseService for Documents {
    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let workflows = self.serve(&request);
        let CreateRequest { collection, data } = request.into_inner();
        let id = workflows.create(&collection, data).await?;
        Ok(serving::answer(CreateResponse { id, success: true }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let backends = self.serve(&request).backends;
        let ReadRequest { collection, id } = request.into_inner();
        let data = backends.read(&collection, &id).await?;
        Ok(serving::answer(ReadResponse { data }))
    }

    async fn update(
        &self,
        request: Request<UpdateRequest>,
    ) -> Result<Response<UpdateResponse>, Status> {
        let backends = self.serve(&request).backends;
        let UpdateRequest {
            collection,
            id,
            data,
        } = request.into_inner();
        backends.update(&collection, &id, data).await?;
        Ok(serving::answer(UpdateResponse { success: true }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let backends = self.serve(&request).backends;
        let DeleteRequest { collection, id } = request.into_inner();
        backends.delete(&collection, &id).await?;
        Ok(serving::answer(DeleteResponse { success: true }))
    }

    type QueryStream = Answers<QueryResponse>;

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let backends = self.serve(&request).backends;
        let QueryRequest { collection, query } = request.into_inner();
        let documents = backends.query(&collection, query).await?;
        let results = stream::try_unfold(documents, |mut documents| async move {
            Ok(documents
                .next()
                .await?
                .map(|document| (document, documents)))
        });
        Ok(Response::new(in_trace(results)))
    }
}
