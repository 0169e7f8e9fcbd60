//! `database.DatabaseService`: checks requests and calls the store.

use std::pin::Pin;

use futures::Stream;
use futures::stream::try_unfold;
use pspd_proto::database::database_service_server::DatabaseService;
use pspd_proto::database::{
    CreateRequest, CreateResponse, DeleteRequest, DeleteResponse, QueryRequest, QueryResponse,
    ReadRequest, ReadResponse, UpdateRequest, UpdateResponse,
};
use serving::{CancellationToken, Owners};
use tonic::{Request, Response, Status};

use crate::problem::{
    bad_query, check_collection, check_data, check_message, draining, failed, missing,
};
use crate::query::Query;
use crate::store::Store;

/// The service over one store; calls that come after `shutdown` are refused, those before it end as they would.
#[derive(Debug)]
pub(crate) struct Database {
    store: Store,
    owners: Owners,
    shutdown: CancellationToken,
}

impl Database {
    pub(crate) fn new(store: Store, owners: Owners, shutdown: CancellationToken) -> Self {
        Self {
            store,
            owners,
            shutdown,
        }
    }

    /// Refuses a name that no collection has, and a collection that is another caller's own.
    fn check_collection(&self, name: &str) -> Result<(), Status> {
        check_collection(name)?;
        self.owners.admit("collection", name)
    }

    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        match self.shutdown.is_cancelled() {
            true => Err(draining()),
            false => Ok(request.into_inner()),
        }
    }
}

#[tonic::async_trait]
impl DatabaseService for Database {
    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let CreateRequest { collection, data } = self.admit(request)?;
        self.check_collection(&collection)?;
        check_data(&data)?;
        let created = self.store.create(collection, data).await;
        let id = created.map_err(|fault| failed(fault, "data"))?;
        Ok(serving::answer(CreateResponse { id, success: true }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let request = self.admit(request)?;
        check_message(&request)?;
        let ReadRequest { collection, id } = request;
        self.check_collection(&collection)?;
        let found = self.store.read(collection.clone(), id.clone()).await;
        match found.map_err(|fault| failed(fault, "id"))? {
            Some(data) => Ok(serving::answer(ReadResponse { data })),
            None => Err(missing(&collection, &id)),
        }
    }

    async fn update(
        &self,
        request: Request<UpdateRequest>,
    ) -> Result<Response<UpdateResponse>, Status> {
        let request = self.admit(request)?;
        self.check_collection(&request.collection)?;
        check_data(&request.data)?;
        check_message(&request)?;
        let UpdateRequest {
            collection,
            id,
            data,
        } = request;
        let updated = self
            .store
            .update(collection.clone(), id.clone(), data)
            .await;
        match updated.map_err(|fault| failed(fault, "data"))? {
            true => Ok(serving::answer(UpdateResponse { success: true })),
            false => Err(missing(&collection, &id)),
        }
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let request = self.admit(request)?;
        check_message(&request)?;
        let DeleteRequest { collection, id } = request;
        self.check_collection(&collection)?;
        let deleted = self.store.delete(collection.clone(), id.clone()).await;
        match deleted.map_err(|fault| failed(fault, "id"))? {
            true => Ok(serving::answer(DeleteResponse { success: true })),
            false => Err(missing(&collection, &id)),
        }
    }

    type QueryStream = Pin<Box<dyn Stream<Item = Result<QueryResponse, Status>> + Send>>;

    /// The stream is asked for the next result only when the caller has room for it.
    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let request = self.admit(request)?;
        check_message(&request)?;
        let QueryRequest { collection, query } = request;
        self.check_collection(&collection)?;
        let mut query = Query::parse(&query).map_err(bad_query)?;
        let indexes = self.store.indexes();
        query
            .use_text_index(&collection, indexes)
            .map_err(bad_query)?;
        let scan = self.store.scan(&collection, query).await;
        let scan = scan.map_err(|fault| failed(fault, "query"))?;
        let results = try_unfold(scan, |mut scan| async move {
            let next = scan.next().await.map_err(|fault| failed(fault, "query"))?;
            Ok(next.map(|(id, data)| (QueryResponse { id, data }, scan)))
        });
        Ok(Response::new(Box::pin(results)))
    }
}
