//! The whole reference system in one process: three services with real TLS, real storage, and HTTP before them.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use database_server::Store;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pspd_proto::business::business_service_client::BusinessServiceClient;
use pspd_proto::business::{ClassifyRequest, ingest_result::Outcome};
use pspd_proto::database::CreateRequest;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use serde_json::{Value, json};
use serving::testing::Authority;
use serving::{CancellationToken, Dependency};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;

struct System {
    http: SocketAddr,
    database: Dependency,
    business: Dependency,
    database_port: u16,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl System {
    async fn start(store: &Path) -> Self {
        let authority = Authority::default();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();

        let (service, listener) = authority.service("database-server").await;
        let database = authority.dependency("database-server", service.listen);
        let database_port = service.listen.port();
        let opened = Store::open(store).await.unwrap();
        let stop = shutdown.clone();
        tasks.spawn(async move { database_server::serve(listener, &service, opened, stop).await });

        let (service, listener) = authority.service("ai-server").await;
        let ai = authority.dependency("ai-server", service.listen);
        let config = ai_server::Config {
            service,
            database: database.clone(),
        };
        let stop = shutdown.clone();
        tasks.spawn(async move { ai_server::serve(listener, &config, stop).await });

        let (service, listener) = authority.service("web-server").await;
        let business = authority.dependency("web-server", service.listen);
        let edge = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let http = edge.local_addr().unwrap();
        let config = web_server::Config {
            service,
            http,
            database: database.clone(),
            ai,
        };
        let stop = shutdown.clone();
        tasks.spawn(async move { web_server::serve(listener, edge, &config, stop).await });
        Self {
            http,
            database,
            business,
            database_port,
            shutdown,
            tasks,
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(outcome) = self.tasks.join_next().await {
            outcome.unwrap().unwrap();
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}/api/v1{path}", self.http))
            .header(header::CONTENT_TYPE, kind)
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
            .body(Body::from(body))
            .unwrap();
        let response = Client::builder(TokioExecutor::new())
            .build_http()
            .request(request)
            .await
            .unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(method, path, "application/json", body).await
    }
}

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_live_through_the_edge_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.sqlite");
    let system = System::start(&store).await;
    let documents = "/collections/notes/documents";
    let (status, created) = system.json("POST", documents, json!({"a": {"b": 3}})).await;
    assert_eq!(status, StatusCode::CREATED);
    let path = format!("{documents}/{}", created["id"].as_str().unwrap());
    assert_eq!(
        system.json("PUT", &path, json!({"a": {"b": 4}})).await.0,
        StatusCode::NO_CONTENT
    );
    system.stop().await;

    let system = System::start(&store).await;
    let expected = json!({"id": created["id"], "data": {"a": {"b": 4}}});
    assert_eq!(
        system.json("GET", &path, Value::Null).await,
        (StatusCode::OK, expected.clone())
    );
    for (query, found) in [
        ("%7B%22a.b%22:%7B%22$gt%22:3%7D%7D", json!([expected])),
        ("%7B%22a.b%22:%223%22%7D", json!([])),
    ] {
        let answer = system
            .json("GET", &format!("{documents}?query={query}"), Value::Null)
            .await;
        assert_eq!(answer, (StatusCode::OK, json!({"documents": found})));
    }
    assert_eq!(
        system.json("DELETE", &path, Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    let (status, problem) = system.json("GET", &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(problem["reason"], "DOCUMENT_NOT_FOUND");
    assert_eq!(problem["service"], "database-server");
    assert_eq!(problem["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let (status, problem) = system
        .call(
            "POST",
            documents,
            "application/json",
            "{\"a\": oops}".to_owned(),
        )
        .await;
    assert_eq!(
        (status, &problem["reason"]),
        (StatusCode::BAD_REQUEST, &json!("DOCUMENT_MALFORMED"))
    );
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_learns_real_texts_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.sqlite");
    let system = System::start(&store).await;
    let (status, problem) = system
        .json("POST", "/classify", json!({"text": "a chess game"}))
        .await;
    assert_eq!(
        (status, &problem["reason"]),
        (StatusCode::NOT_FOUND, &json!("MODEL_NOT_FOUND"))
    );
    let (status, trained) = system
        .call(
            "POST",
            "/models/default/train",
            "text/csv",
            data("train.csv"),
        )
        .await;
    assert_eq!(
        (status, &trained["examples"]),
        (StatusCode::OK, &json!(716)),
        "{trained}"
    );
    system.stop().await;

    let system = System::start(&store).await;
    let mut business = BusinessServiceClient::new(system.business.connect());
    let held_out = data("held-out.csv");
    let mut rows = csv::Reader::from_reader(held_out.as_bytes());
    let rows: Vec<(String, String, String)> = rows.deserialize().collect::<Result<_, _>>().unwrap();
    let requests: Vec<_> = rows
        .iter()
        .map(|(text, label, _)| ClassifyRequest {
            text: text.clone(),
            reference: label.clone(),
            ..Default::default()
        })
        .collect();
    let results = business
        .ingest(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let results: Vec<_> = results.map(Result::unwrap).collect().await;
    assert_eq!(results.len(), rows.len());
    let right = |result: &&_| {
        let pspd_proto::business::IngestResult {
            reference,
            outcome: Some(Outcome::Document(document)),
        } = result
        else {
            return false;
        };
        document.label == *reference
    };
    let accuracy = results.iter().filter(right).count() as f32 / rows.len() as f32;
    eprintln!(
        "progressive accuracy {}, held-out accuracy {accuracy}",
        trained["accuracy"]
    );
    assert!(accuracy > 0.8, "held-out accuracy {accuracy}");

    let (status, trained) = system
        .json("POST", "/models/second/train-from/documents", Value::Null)
        .await;
    assert_eq!(
        (status, &trained["examples"]),
        (StatusCode::OK, &json!(rows.len())),
        "{trained}"
    );
    let (status, state) = system.json("GET", "/status", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let serving: Vec<_> = state["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| &backend["serving"])
        .collect();
    assert_eq!(serving, [&json!(true); 3], "{state}");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_certificate_of_the_deployment_gets_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let create = || CreateRequest {
        collection: "c".to_owned(),
        data: "{}".to_owned(),
    };
    let mut known = DatabaseServiceClient::new(system.database.connect());
    assert!(known.create(create()).await.is_ok());
    let port = system.database_port;
    let stranger =
        Authority::default().dependency("database-server", (Ipv4Addr::LOCALHOST, port).into());
    let mut stranger = DatabaseServiceClient::new(stranger.connect());
    let refused = tokio::time::timeout(Duration::from_secs(10), stranger.create(create()))
        .await
        .unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    system.stop().await;
}
