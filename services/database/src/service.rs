//! `database.DatabaseService`: checks requests, calls the store, describes failures.

use std::collections::VecDeque;
use std::pin::Pin;

use futures::Stream;
use futures::stream::try_unfold;
use pspd_proto::database::database_service_server::DatabaseService;
use pspd_proto::database::{
    CreateRequest, CreateResponse, DeleteRequest, DeleteResponse, QueryRequest, QueryResponse,
    ReadRequest, ReadResponse, UpdateRequest, UpdateResponse,
};
use serving::{MESSAGE_LIMIT, Problem};
use tonic::{Request, Response, Status};

use crate::filter::Filter;
use crate::store::{Store, document};

/// Room for a message's other fields beside a document.
const DATA_LIMIT: usize = MESSAGE_LIMIT - 1024;
/// Bounds what one query holds in memory.
const PAGE: u64 = 16;

/// The service over one store.
#[derive(Debug)]
pub(crate) struct Database {
    store: Store,
}

impl Database {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl DatabaseService for Database {
    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let CreateRequest { collection, data } = request.into_inner();
        check_collection(&collection)?;
        check_data(&data)?;
        let id = self.store.create(collection, data).await.map_err(failed)?;
        Ok(Response::new(CreateResponse { id, success: true }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let ReadRequest { collection, id } = request.into_inner();
        check_collection(&collection)?;
        let data = self.store.read(&collection, &id).await.map_err(failed)?;
        let data = data.ok_or_else(|| missing(&collection, &id))?;
        Ok(Response::new(ReadResponse { data }))
    }

    async fn update(
        &self,
        request: Request<UpdateRequest>,
    ) -> Result<Response<UpdateResponse>, Status> {
        let UpdateRequest {
            collection,
            id,
            data,
        } = request.into_inner();
        check_collection(&collection)?;
        check_data(&data)?;
        match self
            .store
            .update(&collection, &id, data)
            .await
            .map_err(failed)?
        {
            true => Ok(Response::new(UpdateResponse { success: true })),
            false => Err(missing(&collection, &id)),
        }
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { collection, id } = request.into_inner();
        check_collection(&collection)?;
        match self.store.delete(&collection, &id).await.map_err(failed)? {
            true => Ok(Response::new(DeleteResponse { success: true })),
            false => Err(missing(&collection, &id)),
        }
    }

    type QueryStream = Pin<Box<dyn Stream<Item = Result<QueryResponse, Status>> + Send>>;

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let QueryRequest { collection, query } = request.into_inner();
        check_collection(&collection)?;
        let filter = Filter::parse(&query).map_err(|error| {
            Status::from(Problem::invalid("query", error.reason, error.message))
        })?;
        let cursor = Cursor {
            store: self.store.clone(),
            collection,
            left: filter.limit.unwrap_or(u64::MAX),
            filter,
            last: None,
            page: VecDeque::new(),
            exhausted: false,
        };
        let results = try_unfold(cursor, |mut cursor| async move {
            let document = cursor.next().await.map_err(failed)?;
            Ok(document
                .map(|document::Model { id, data, .. }| (QueryResponse { id, data }, cursor)))
        });
        Ok(Response::new(Box::pin(results)))
    }
}

/// Where a query stands; it advances as fast as the caller takes results.
struct Cursor {
    store: Store,
    collection: String,
    filter: Filter,
    left: u64,
    last: Option<String>,
    page: VecDeque<document::Model>,
    exhausted: bool,
}

impl Cursor {
    async fn next(&mut self) -> Result<Option<document::Model>, sea_orm::DbErr> {
        if self.page.is_empty() && !self.exhausted && self.left > 0 {
            let size = PAGE.min(self.left);
            self.page = self
                .store
                .page(&self.collection, &self.filter, self.last.as_deref(), size)
                .await?
                .into();
            self.exhausted = (self.page.len() as u64) < size;
            self.left -= self.page.len() as u64;
            self.last = self.page.back().map(|document| document.id.clone());
        }
        Ok(self.page.pop_front())
    }
}

fn check_collection(name: &str) -> Result<(), Status> {
    let valid = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if valid {
        return Ok(());
    }
    let message =
        format!("`{name}` is not a collection's name: use 1 to 64 of letters, digits, `_` and `-`");
    Err(Problem::invalid("collection", "COLLECTION_NAME_INVALID", message).into())
}

fn check_data(data: &str) -> Result<(), Status> {
    if data.len() > DATA_LIMIT {
        let message = format!(
            "the document has {} bytes, more than {DATA_LIMIT}",
            data.len()
        );
        return Err(Problem::invalid("data", "DOCUMENT_TOO_LARGE", message).into());
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(data) {
        Ok(_) => Ok(()),
        Err(error) => {
            let offset = offset(data, error.line(), error.column());
            let message = format!("the data is not a JSON object, at byte {offset}: {error}");
            Err(Problem::invalid("data", "DOCUMENT_MALFORMED", message)
                .with("offset", offset.to_string())
                .into())
        }
    }
}

/// Turns a line and a column, both counted from 1, to a byte offset.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    (before + column.saturating_sub(1)).min(text.len())
}

fn missing(collection: &str, id: &str) -> Status {
    let message = format!("there is no document `{id}` in `{collection}`");
    Problem::missing(
        "document",
        &format!("{collection}/{id}"),
        "DOCUMENT_NOT_FOUND",
        message,
    )
    .into()
}

fn failed(error: sea_orm::DbErr) -> Status {
    Problem::internal("the store failed", error).into()
}
