//! With a token, no part of the API is open; without one, all of it is.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::json;

use crate::running::System;

const TOKEN: &str = "a-token-of-the-test";

async fn ask(
    system: &System,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (StatusCode, HeaderMap) {
    let mut request = Request::builder().method(method).uri(system.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (status, headers, _) = system.send(request.body(Body::from(body)).unwrap()).await;
    (status, headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_required_everywhere_except_for_signing_in() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.sqlite");
    let system = System::start_with(&store, Some(TOKEN.parse().unwrap())).await;
    let get = |path| ask(&system, "GET", path, &[], String::new());
    for (path, expected) in [
        ("/", StatusCode::OK),
        ("/documents", StatusCode::OK),
        ("/healthz", StatusCode::OK),
        ("/api/v1/session", StatusCode::OK),
        ("/metrics", StatusCode::UNAUTHORIZED),
        ("/api/v1/status", StatusCode::UNAUTHORIZED),
        ("/api/v1/openapi.json", StatusCode::UNAUTHORIZED),
        ("/api/v1/collections/c/documents", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(get(path).await.0, expected, "{path}");
    }
    let frame = "\0\0\0\0\0";
    for method in [
        "/database.DatabaseService/Query",
        "/business.BusinessService/Classify",
    ] {
        let kind = [("content-type", "application/grpc-web+proto")];
        let (_, headers) = ask(&system, "POST", method, &kind, frame.to_owned()).await;
        assert_eq!(headers["grpc-status"], "16", "{method}");
    }

    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let (status, _) = ask(&system, "GET", "/api/v1/status", &headers, String::new()).await;
    assert_eq!(status, StatusCode::OK);

    let session = "/api/v1/session";
    let kind = [("content-type", "application/json")];
    let wrong = json!({"token": "another-token-of-it"}).to_string();
    let (status, _) = ask(&system, "POST", session, &kind, wrong).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let right = json!({"token": TOKEN}).to_string();
    let (status, headers) = ask(&system, "POST", session, &kind, right).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let cookie = headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));
    let cookie = [("cookie", cookie.split(';').next().unwrap())];
    let status = || async {
        ask(&system, "GET", "/api/v1/status", &cookie, String::new())
            .await
            .0
    };
    assert_eq!(status().await, StatusCode::OK);
    let (left, _) = ask(&system, "DELETE", session, &cookie, String::new()).await;
    assert_eq!(left, StatusCode::NO_CONTENT);
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
    system.stop().await;
}
