//! Callers that send a frame for each message, callers that cancel many calls, and calls that no service has.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use prost::bytes::Bytes;
use pspd_proto::ai::ai_service_server::{AiService, AiServiceServer};
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use serving::testing::Authority;
use serving::{Callers, CancellationToken, Services, error};
use tokio::net::TcpStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// Begins to read a stream late.
const PAUSE: Duration = Duration::from_secs(1);

/// How many streams of metrics are open.
#[derive(Default)]
struct Late(Arc<AtomicUsize>);

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl AiService for Late {
    async fn predict(
        &self,
        _: Request<PredictRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        Ok(Response::new(PredictResponse::default()))
    }

    async fn train_model(
        &self,
        request: Request<Streaming<TrainingData>>,
    ) -> Result<Response<TrainingStatus>, Status> {
        tokio::time::sleep(PAUSE).await;
        let mut examples = request.into_inner();
        let mut iterations = 0;
        while examples.message().await?.is_some() {
            iterations += 1;
        }
        Ok(Response::new(TrainingStatus {
            iterations,
            ..Default::default()
        }))
    }

    type MonitorModelStream = stream::BoxStream<'static, Result<ModelMetrics, Status>>;

    /// As fast as they are taken; none for the model `silent`.
    async fn monitor_model(
        &self,
        request: Request<ModelIdentifier>,
    ) -> Result<Response<Self::MonitorModelStream>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let open = Open(self.0.clone());
        let metrics = match request.get_ref().model_id.as_str() {
            "silent" => stream::pending().boxed(),
            _ => stream::repeat_with(|| Ok(ModelMetrics::default())).boxed(),
        };
        let metrics = metrics.inspect(move |_| {
            let _open = &open;
        });
        Ok(Response::new(metrics.boxed()))
    }
}

async fn start() -> SocketAddr {
    start_with(Late::default()).await
}

async fn start_with(late: Late) -> SocketAddr {
    let (mut service, listener) = Authority::default().service("ai-server").await;
    service.identity = None;
    service.callers = Callers::Anyone;
    let address = service.listen;
    let services = Services::default().with(AiServiceServer::new(late));
    tokio::spawn(async move {
        serving::serve(listener, &service, services, CancellationToken::new()).await
    });
    address
}

async fn connect(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    requests
}

fn call(address: SocketAddr, method: &str) -> http::Request<()> {
    http::Request::post(format!("http://{address}/ai.AiService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A message as gRPC frames it.
fn framed(message: &impl prost::Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    bytes.extend(encoded);
    bytes.into()
}

/// Sends as much as the peer takes, each frame by itself.
async fn send(body: &mut h2::SendStream<Bytes>, frame: Bytes) {
    body.reserve_capacity(frame.len());
    while body.capacity() < frame.len() {
        poll_fn(|context| body.poll_capacity(context))
            .await
            .unwrap()
            .unwrap();
    }
    body.send_data(frame, false).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_short_messages_has_any_length() {
    const MESSAGES: usize = 100_000;
    let address = start().await;
    let requests = connect(address).await;
    for length in [0, 40] {
        let mut requests = requests.clone().ready().await.unwrap();
        let (response, mut body) = requests
            .send_request(call(address, "TrainModel"), false)
            .unwrap();
        let frame = framed(&TrainingData {
            input: "x".repeat(length),
            expected_output: "y".to_owned(),
        });
        for _ in 0..MESSAGES {
            send(&mut body, frame.clone()).await;
        }
        body.send_data(Bytes::new(), true).unwrap();
        let mut response = response.await.unwrap().into_body();
        let data = response.data().await.unwrap().unwrap();
        let status = TrainingStatus::decode(&data[5..]).unwrap();
        assert_eq!(status.iterations as usize, MESSAGES, "{length}");
    }
}

/// Whether the caller takes nothing, or there is nothing to take.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline_on_the_server_too() {
    const LIMIT: Duration = Duration::from_secs(30);
    let open = Arc::new(AtomicUsize::new(0));
    let address = start_with(Late(open.clone())).await;
    let requests = connect(address).await;
    for name in ["endless", "silent"] {
        let mut requests = requests.clone().ready().await.unwrap();
        let mut request = call(address, "MonitorModel");
        let headers = request.headers_mut();
        headers.insert("grpc-timeout", "300m".parse().unwrap());
        let (response, mut body) = requests.send_request(request, false).unwrap();
        let model = ModelIdentifier {
            model_id: name.to_owned(),
        };
        body.send_data(framed(&model), true).unwrap();
        let mut response = response.await.unwrap().into_body();
        let began = Instant::now();
        while open.load(Ordering::SeqCst) > 0 {
            assert!(began.elapsed() < LIMIT, "`{name}` is still open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while let Some(data) = response.data().await {
            let length = data.unwrap().len();
            response.flow_control().release_capacity(length).unwrap();
        }
        let trailers = response.trailers().await.unwrap().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{name}");
        assert_eq!(error::describe(&status).reason, "DEADLINE_PASSED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_do_not_end_others() {
    let address = start().await;
    let requests = connect(address).await;
    let mut requests = requests.ready().await.unwrap();
    let (innocent, mut body) = requests
        .send_request(call(address, "TrainModel"), false)
        .unwrap();
    for _ in 0..3000 {
        requests = requests.ready().await.unwrap();
        let (_given_up, mut body) = requests
            .send_request(call(address, "TrainModel"), false)
            .unwrap();
        body.send_reset(h2::Reason::CANCEL);
    }
    send(&mut body, framed(&TrainingData::default())).await;
    body.send_data(Bytes::new(), true).unwrap();
    assert_eq!(innocent.await.unwrap().status(), 200);
}

/// Calls with one message, and returns the code and the reason of the error.
async fn failing(
    requests: &h2::client::SendRequest<Bytes>,
    request: http::Request<()>,
    message: &'static [u8],
) -> (Code, String) {
    let mut requests = requests.clone().ready().await.unwrap();
    let (response, mut body) = requests.send_request(request, false).unwrap();
    // The answer may come first.
    let _refused = body.send_data(Bytes::from_static(message), true);
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let status = Status::from_header_map(response.headers()).unwrap();
    (status.code(), error::describe(&status).reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_protocol_are_described() {
    let address = start().await;
    let requests = connect(address).await;
    let other = http::Request::post(format!("http://{address}/no.Service/Method"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut large = call(address, "Predict");
    let value = "x".repeat(20_000).parse().unwrap();
    large.headers_mut().insert("large", value);
    let table = [
        (
            call(address, "Nothing"),
            &b"\0\0\0\0\0"[..],
            Code::Unimplemented,
            "METHOD_UNKNOWN",
        ),
        (other, b"\0\0\0\0\0", Code::Unimplemented, "METHOD_UNKNOWN"),
        (
            call(address, "Predict"),
            b"\0\0\0\0\x02\x0a\xff",
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            large,
            b"\0\0\0\0\0",
            Code::ResourceExhausted,
            "METADATA_TOO_LARGE",
        ),
    ];
    for (request, message, code, reason) in table {
        let path = request.uri().to_string();
        let answer = failing(&requests, request, message).await;
        assert_eq!(answer, (code, reason.to_owned()), "{path}");
    }
}

/// The services that reflection lists, by both of its versions.
#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_what_is_served() {
    use tonic_reflection::pb::{v1, v1alpha};

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", start().await));
    let channel = channel.unwrap().connect().await.unwrap();
    let expected = [
        "ai.AiService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(stream::iter([request])).await;
    let answer = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(listed)) =
        answer.message_response
    else {
        panic!("another answer");
    };
    let names: Vec<String> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert_eq!(names, expected);

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(stream::iter([request])).await;
    let answer = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(listed)) =
        answer.message_response
    else {
        panic!("another answer");
    };
    let names: Vec<String> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert_eq!(names, expected);
}
