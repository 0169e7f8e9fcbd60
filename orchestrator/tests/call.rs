//! `pspd call` on a server of the health protocol, on loopback.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Read};
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::net::TcpListener;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use pspd::reach::Reach;
use pspd::reflection::{Header, Service, Target, describe_method, json, read, signature};

struct Server;

/// What a call carries, as a status that says it.
fn metadata(request: &Request<HealthCheckRequest>) -> Status {
    let texts = request.metadata().get_all("x-tenant").iter();
    let texts: Vec<&str> = texts.filter_map(|value| value.to_str().ok()).collect();
    let bytes = request.metadata().get_bin("trace-bin");
    let bytes = bytes.and_then(|value| value.to_bytes().ok());
    Status::invalid_argument(format!("{texts:?} {bytes:?}"))
}

#[tonic::async_trait]
impl Health for Server {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "" => Ok(Response::new(HealthCheckResponse { status: 0 })),
            "slow" => std::future::pending().await,
            "metadata" => Err(metadata(&request)),
            "up" => Ok(Response::new(HealthCheckResponse { status: 1 })),
            other => Err(Status::not_found(format!("no service `{other}`"))),
        }
    }

    type WatchStream = futures::stream::BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers = [2, 1].map(|status| Ok(HealthCheckResponse { status }));
        let end = futures::stream::once(async { Err(Status::aborted("enough")) });
        Ok(Response::new(
            futures::stream::iter(answers).chain(end).boxed(),
        ))
    }
}

async fn service() -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(HealthServer::new(Server))
            .add_service(reflection)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Service::open(&Target::plain(Reach::Direct, address))
        .await
        .unwrap()
}

/// The answers as JSON, and the code with which the call ended; or what is wrong with the input.
async fn called(
    service: &Service,
    method: &str,
    input: impl Read + Send + 'static,
) -> Result<(Vec<String>, Code), String> {
    let method = service.method(method).unwrap();
    let input = read(input, "the message", &method);
    let ended = async {
        let limit = Some(Duration::from_secs(1));
        let mut answers = match service
            .call(&method, input.messages, MetadataMap::new(), limit)
            .await
        {
            Ok(answers) => answers,
            Err(status) => return (Vec::new(), status.code()),
        };
        let mut texts = Vec::new();
        loop {
            match answers.message().await {
                Ok(Some(answer)) => texts.push(json(&answer, false).unwrap()),
                Ok(None) => return (texts, Code::Ok),
                Err(status) => return (texts, status.code()),
            }
        }
    };
    tokio::select! {
        biased;
        Ok(fault) = input.fault => Err(format!("{fault:#}")),
        ended = ended => Ok(ended),
    }
}

#[tokio::test]
async fn answers_and_statuses_are_what_the_service_gave() {
    let service = service().await;
    let call = |method, text: &str| called(&service, method, Cursor::new(text.to_owned()));
    let ok = |text: &str| Ok((vec![text.to_owned()], Code::Ok));
    assert_eq!(call("Check", "").await, ok(r#"{"status":"UNKNOWN"}"#));
    let up = r#"{"service": "up"}"#;
    assert_eq!(call("Check", up).await, ok(r#"{"status":"SERVING"}"#));
    let answers = [r#"{"status":"NOT_SERVING"}"#, r#"{"status":"SERVING"}"#];
    assert_eq!(
        call("grpc.health.v1.Health/Watch", "{}").await,
        Ok((answers.map(str::to_owned).to_vec(), Code::Aborted))
    );
    let gone = r#"{"service": "gone"}"#;
    assert_eq!(call("Check", gone).await, Ok((Vec::new(), Code::NotFound)));
    let slow = r#"{"service": "slow"}"#;
    let (answers, code) = call("Check", slow).await.unwrap();
    assert!(answers.is_empty());
    // The client and the server both end it.
    assert!(
        matches!(code, Code::DeadlineExceeded | Code::Cancelled),
        "{code:?}"
    );
}

#[tokio::test]
async fn metadata_arrives_as_it_was_given() {
    let service = service().await;
    let method = service.method("Check").unwrap();
    let input = read(
        Cursor::new(r#"{"service": "metadata"}"#),
        "the message",
        &method,
    );
    let mut metadata = MetadataMap::new();
    for header in ["X-Tenant: one", "x-tenant: b: c", "trace-bin: AAEC/w"] {
        header.parse::<Header>().unwrap().add(&mut metadata);
    }
    let limit = Some(Duration::from_secs(20));
    let called = service.call(&method, input.messages, metadata, limit);
    let status = called.await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        r#"["one", "b: c"] Some(b"\0\x01\x02\xff")"#
    );
}

#[tokio::test]
async fn an_invalid_message_is_named_and_not_sent() {
    let service = service().await;
    for (text, problem) in [
        ("{", "the message: value 1 is not valid JSON: EOF"),
        (
            r#"{"servce": ""}"#,
            "the message: value 1 is not a message of type `grpc.health.v1.HealthCheckRequest`: unrecognized field name 'servce'",
        ),
        ("{} {}", "`grpc.health.v1.Health.Check` takes one message"),
        ("7", "value 1 is not a message of type"),
        ("{} x", "value 2 is not valid JSON"),
    ] {
        let error = called(&service, "Check", Cursor::new(text))
            .await
            .unwrap_err();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_service_is_described_as_a_proto_file_has_it() {
    let service = service().await;
    let methods: Vec<String> = service.methods().iter().map(signature).collect();
    assert_eq!(
        methods[0],
        "rpc Check (HealthCheckRequest) returns (HealthCheckResponse);"
    );
    let watch = service.method("Watch").unwrap();
    assert_eq!(
        describe_method(&watch),
        "// grpc.health.v1.Health\n\
         rpc Watch (HealthCheckRequest) returns (stream HealthCheckResponse);\n\n\
         message HealthCheckRequest {\n  string service = 1;\n}\n\n\
         message HealthCheckResponse {\n  ServingStatus status = 1;\n}\n\n\
         enum ServingStatus {\n  UNKNOWN = 0;\n  SERVING = 1;\n  NOT_SERVING = 2;\n  SERVICE_UNKNOWN = 3;\n}\n"
    );
    let error = service.method("Wach").unwrap_err().to_string();
    assert!(
        error.contains("the service has no method `Wach`"),
        "{error}"
    );
}
