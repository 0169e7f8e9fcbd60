//! The OpenAPI document matches the router.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::running::System;

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_exists_and_responds_as_documented() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let (status, document) = system.json("GET", "/openapi.json", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let mut operations = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push(format!("{method} {path}"));
            let asked = path.replace(['{', '}'], "");
            let asked = asked.strip_prefix("/api/v1").unwrap();
            // A stream does not end.
            let asked = asked.replace("/summary", "/summary?interval_ms=0");
            let (status, answer) = system
                .json(&method.to_uppercase(), &asked, Value::Null)
                .await;
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_ne!(answer["reason"], "PATH_UNKNOWN", "{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            let declared = responses.contains_key(status.as_str());
            let problem = responses.contains_key("default") && answer["trace_id"].is_string();
            assert!(declared || problem, "{method} {path}: {status} {answer}");
        }
    }
    operations.sort_unstable();
    assert_eq!(
        operations,
        [
            "delete /api/v1/collections/{collection}/documents/{id}",
            "delete /api/v1/session",
            "get /api/v1/collections",
            "get /api/v1/collections/{collection}/documents",
            "get /api/v1/collections/{collection}/documents/{id}",
            "get /api/v1/history",
            "get /api/v1/session",
            "get /api/v1/status",
            "get /api/v1/summary",
            "post /api/v1/classify",
            "post /api/v1/collections/{collection}/documents",
            "post /api/v1/collections/{collection}/upload",
            "post /api/v1/models/{id}/train",
            "post /api/v1/models/{id}/train-from/{collection}",
            "post /api/v1/session",
            "put /api/v1/collections/{collection}/documents/{id}",
        ]
    );
    let (status, problem) = system.json("GET", "/nowhere", json!(null)).await;
    assert_eq!(
        (status, &problem["reason"]),
        (StatusCode::NOT_FOUND, &json!("PATH_UNKNOWN"))
    );
    system.stop().await;
}
