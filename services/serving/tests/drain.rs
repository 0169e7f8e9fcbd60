//! What a service that stops waits for, and what it does not.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use prost::bytes::Bytes;
use pspd_proto::ai::ai_service_client::AiServiceClient;
use pspd_proto::ai::ai_service_server::{AiService, AiServiceServer};
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use serving::testing::Authority;
use serving::{Callers, CancellationToken, Services};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

/// How long the calls of a service that stops may take.
const DRAIN: Duration = Duration::from_secs(10);
const ITEMS: u64 = 30;

/// Streams for three seconds, and answers with a megabyte.
struct Slow;

#[tonic::async_trait]
impl AiService for Slow {
    async fn predict(
        &self,
        _: Request<PredictRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        Ok(Response::new(PredictResponse {
            prediction: "a".repeat(1 << 20),
            ..Default::default()
        }))
    }

    async fn train_model(
        &self,
        _: Request<Streaming<TrainingData>>,
    ) -> Result<Response<TrainingStatus>, Status> {
        Ok(Response::new(TrainingStatus::default()))
    }

    type MonitorModelStream = stream::BoxStream<'static, Result<ModelMetrics, Status>>;

    async fn monitor_model(
        &self,
        _: Request<ModelIdentifier>,
    ) -> Result<Response<Self::MonitorModelStream>, Status> {
        let items = stream::iter(0..ITEMS).then(|_| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(ModelMetrics::default())
        });
        Ok(Response::new(items.boxed()))
    }
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

async fn start() -> Running {
    let (mut service, listener) = Authority::default().service("ai-server").await;
    service.identity = None;
    service.callers = Callers::Anyone;
    let (address, shutdown) = (service.listen, CancellationToken::new());
    let services = Services::default().with(AiServiceServer::new(Slow));
    let stop = shutdown.clone();
    let task =
        tokio::spawn(async move { serving::serve(listener, &service, services, stop).await });
    Running {
        address,
        shutdown,
        task,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_gone_does_not_hold_it() {
    let running = start().await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut requests, mut connection) = h2::client::handshake(stream).await.unwrap();
    let request = http::Request::get(format!("http://{}/metrics", running.address));
    let (response, _) = requests
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    tokio::select! {
        response = response => assert!(response.unwrap().status().is_success()),
        ended = &mut connection => panic!("{ended:?}"),
    }
    // From here on nobody reads what the service writes, or answers it.
    running.shutdown.cancel();
    let ended = tokio::time::timeout(DRAIN, running.task).await;
    ended
        .expect("it ends before the deadline of calls")
        .unwrap()
        .unwrap();
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_continue_to_their_ends() {
    let running = start().await;
    let url = format!("http://{}", running.address);
    let mut client = AiServiceClient::connect(url).await.unwrap();
    let stream = client.monitor_model(ModelIdentifier::default()).await;
    let mut stream = stream.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    running.shutdown.cancel();
    let mut items = 1;
    while stream.message().await.unwrap().is_some() {
        items += 1;
    }
    assert_eq!(items, ITEMS);
    drop((stream, client));
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_its_whole_answer() {
    let running = start().await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/ai.AiService/Predict", running.address));
    let request = request
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (response, mut body) = requests
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    running.shutdown.cancel();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        length += data.len();
        // As long as the window is full, the service waits.
        tokio::time::sleep(Duration::from_millis(40)).await;
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert!(length > 1 << 20, "{length}");
    drop(requests);
    running.task.await.unwrap().unwrap();
    connection.await.unwrap().unwrap();
}
