//! gRPC: HTTP/2 and protobuf.

use std::pin::Pin;

use anyhow::Context as _;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::calls::Calls;
use crate::connector::Connector;
use crate::handler::{self, Refused};
use crate::records::records_client::RecordsClient;
use crate::records::records_server::{Records, RecordsServer};
use crate::records::{ListRequest, Record, Summary};

/// The server's side.
pub(crate) struct Service;

/// The service and its health.
pub(crate) async fn routes() -> axum::Router {
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_serving::<RecordsServer<Service>>().await;
    tonic::service::Routes::new(RecordsServer::new(Service))
        .add_service(health_server)
        .into_axum_router()
}

impl From<Refused> for Status {
    fn from(Refused(reason): Refused) -> Status {
        Status::invalid_argument(reason)
    }
}

#[tonic::async_trait]
impl Records for Service {
    async fn echo(&self, request: Request<Record>) -> Result<Response<Record>, Status> {
        Ok(Response::new(handler::echo(request.into_inner())))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<Record, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let records = handler::list(request.into_inner().count)?;
        Ok(Response::new(Box::pin(stream::iter(records.map(Ok)))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<Record>>,
    ) -> Result<Response<Summary>, Status> {
        let mut records = request.into_inner();
        let mut summary = Summary::default();
        while let Some(record) = records.message().await? {
            handler::take(&mut summary, &record);
        }
        Ok(Response::new(summary))
    }

    type ChatStream = Pin<Box<dyn Stream<Item = Result<Record, Status>> + Send>>;

    async fn chat(
        &self,
        request: Request<Streaming<Record>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let records = request.into_inner();
        let answers = records.map(|record| record.map(handler::echo));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The caller's side: all callers share a channel.
#[derive(Clone)]
pub(crate) struct Caller(RecordsClient<Channel>);

impl Caller {
    pub(crate) fn new(connector: &Connector) -> anyhow::Result<Self> {
        // The connector adds TLS; for `https` the library would add its own.
        let endpoint = Endpoint::from_shared(format!("http://{}", connector.target.name))?;
        let channel = endpoint.connect_with_connector_lazy(connector.clone());
        Ok(Self(RecordsClient::new(channel)))
    }
}

#[tonic::async_trait]
impl Calls for Caller {
    async fn echo(&mut self, record: Record) -> anyhow::Result<Record> {
        Ok(self.0.echo(record).await?.into_inner())
    }

    async fn list(&mut self, count: u32) -> anyhow::Result<Vec<Record>> {
        let mut stream = self.0.list(ListRequest { count }).await?.into_inner();
        let mut records = Vec::new();
        while let Some(record) = stream.message().await? {
            records.push(record);
        }
        Ok(records)
    }

    async fn upload(&mut self, records: Vec<Record>) -> anyhow::Result<Summary> {
        Ok(self.0.upload(stream::iter(records)).await?.into_inner())
    }

    async fn chat(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Record>> {
        let (sender, receiver) = mpsc::channel(1);
        let mut answers = self
            .0
            .chat(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let mut returned = Vec::new();
        for record in records {
            sender.send(record).await.context("the stream ended")?;
            returned.push(answers.message().await?.context("the stream ended")?);
        }
        drop(sender);
        anyhow::ensure!(answers.message().await?.is_none(), "too many answers");
        Ok(returned)
    }
}
