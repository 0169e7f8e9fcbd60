//! The three services with the callers of the reference topology, and a collector of their traces.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use database_server::{Indexes, Location, Store};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use serving::testing::Authority;
use serving::{Callers, CancellationToken, Dependency, Owners};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Passes on the spans that are exported to it.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn call(http: SocketAddr, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{http}/api/v1{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
        .header("tracestate", "vendor=state")
        .body(Body::from(body.to_string()))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

/// The collected spans of [`TRACE`], by service.
fn by_service(
    mut exported: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
) -> BTreeMap<String, Vec<Span>> {
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    while let Ok(request) = exported.try_recv() {
        for of_service in request.resource_spans {
            let name = format!("{:?}", of_service.resource.unwrap().attributes[0].value);
            let name = name.split('"').nth(1).unwrap().to_owned();
            let scopes = of_service.scope_spans.into_iter();
            let of_trace = scopes.flat_map(|scope| scope.spans);
            let of_trace = of_trace.filter(|span| hex(&span.trace_id) == TRACE);
            spans.entry(name).or_default().extend(of_trace);
        }
    }
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_check_their_callers_and_share_one_trace() {
    let (exporting, exported) = mpsc::unbounded_channel();
    let (listener, collector) = listen().await;
    let collecting = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Collector(exporting)))
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    let collector = Dependency::collector(&format!("http://{collector}"), None).unwrap();

    let authority = Authority::default();
    let directory = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let (mut service, listener) = authority.service("database-server").await;
    let database = service.listen;
    service.callers = Callers::parse("ai-server,web-server");
    service.owners = Owners::parse("ai-models=ai-server").unwrap();
    service.collector = Some(collector.clone());
    let store = Store::open(
        &Location::File(directory.path().join("store.sqlite")),
        Indexes::default(),
    )
    .await
    .unwrap();
    let stop = shutdown.clone();
    tasks.spawn(async move { database_server::serve(listener, &service, store, stop).await });

    let (mut service, listener) = authority.service("ai-server").await;
    let ai = service.listen;
    service.callers = Callers::parse("web-server");
    service.collector = Some(collector.clone());
    let config = ai_server::Config {
        service,
        database: authority.dependency_of("ai-server", "database-server", database),
        idle: ai_server::IDLE,
    };
    let stop = shutdown.clone();
    tasks.spawn(async move { ai_server::serve(listener, &config, stop).await });

    let (mut service, listener) = authority.service("web-server").await;
    let (edge, http) = listen().await;
    service.collector = Some(collector);
    let config = web_server::Config {
        service,
        http,
        database: authority.dependency_of("web-server", "database-server", database),
        ai: authority.dependency_of("web-server", "ai-server", ai),
        token: None,
        hosts: web_server::Hosts::default(),
        proxies: web_server::Proxies::default(),
    };
    let stop = shutdown.clone();
    tasks.spawn(async move { web_server::serve(listener, edge, &config, stop).await });

    let examples: Vec<Value> = (0..12)
        .map(|n| match n % 2 {
            0 => json!({"text": format!("a goal in minute {n} of the match"), "label": "sport"}),
            _ => json!({"text": format!("the bank lowers its rate by {n}"), "label": "money"}),
        })
        .collect();
    let body = json!({"examples": examples});
    let (status, trained) = call(http, "POST", "/models/small/train", body).await;
    assert_eq!(status, StatusCode::OK, "{trained}");

    // The model's documents exist, and only the AI service may use them.
    let models = "/collections/ai-models/documents";
    let (status, problem) = call(http, "GET", models, Value::Null).await;
    assert_eq!(
        (status, &problem["reason"], &problem["service"]),
        (
            StatusCode::FORBIDDEN,
            &json!("RESOURCE_OWNED"),
            &json!("database-server")
        ),
        "{problem}"
    );

    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap().unwrap();
        }
    });
    ended.await.unwrap();
    collecting.abort();

    let spans = by_service(exported);
    let web = &spans["web-server"];
    let root = web
        .iter()
        .find(|span| span.name.ends_with("/train"))
        .unwrap();
    assert_eq!(hex(&root.parent_span_id), SPAN);
    let training = &spans["ai-server"];
    let training = training
        .iter()
        .find(|span| span.name == "ai.AiService/TrainModel")
        .unwrap();
    assert_eq!(
        training.parent_span_id, root.span_id,
        "the web server called the AI service"
    );
    let stored = spans["database-server"].iter();
    let stored: Vec<&Span> = stored
        .filter(|span| span.name == "database.DatabaseService/Create")
        .collect();
    assert!(!stored.is_empty());
    for span in stored {
        assert_eq!(
            span.parent_span_id, training.span_id,
            "which called the database"
        );
        assert_eq!(span.trace_state, "vendor=state");
        assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    }
    let refused = spans["database-server"]
        .iter()
        .filter(|span| span.status.is_some());
    assert_eq!(refused.count(), 1, "the rejected call's span has an error");
}
