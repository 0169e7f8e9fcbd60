//! With a token, no part of the API is open; without one, all of it is, to programs and the own page.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::json;

use web_server::Proxies;

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

/// What a browser sends for a page of another site, and what a page under a rebound name sends.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_servers_own_page_and_programs_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let own = format!("http://{}", system.http);
    let json = ("content-type", "application/json");
    let documents = "/api/v1/collections/c/documents";
    let document = |headers: &[(&'static str, &str)]| {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let system = &system;
        async move {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            ask(system, "POST", documents, &headers, "{}".to_owned())
                .await
                .0
        }
    };
    let table: &[(&[(&'static str, &str)], StatusCode)] = &[
        (&[json], StatusCode::CREATED),
        (&[json, ("origin", &own)], StatusCode::CREATED),
        (
            &[("content-type", "application/json; charset=utf-8")],
            StatusCode::CREATED,
        ),
        (
            &[json, ("sec-fetch-site", "same-origin")],
            StatusCode::CREATED,
        ),
        (&[], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            &[("content-type", "text/plain")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            &[("content-type", "text/plain; application/json")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            &[("content-type", "text/csv")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            &[json, ("origin", "https://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (&[json, ("origin", "null")], StatusCode::FORBIDDEN),
        (
            &[json, ("sec-fetch-site", "cross-site")],
            StatusCode::FORBIDDEN,
        ),
        (
            &[json, ("sec-fetch-site", "same-site")],
            StatusCode::FORBIDDEN,
        ),
        (&[json, ("host", "evil.example")], StatusCode::FORBIDDEN),
    ];
    for (headers, expected) in table {
        assert_eq!(document(headers).await, *expected, "{headers:?}");
    }

    let rebound = [("host", "evil.example:8080")];
    for (method, path) in [
        ("GET", documents),
        ("DELETE", documents),
        ("GET", "/metrics"),
        ("GET", "/"),
    ] {
        let (status, _) = ask(&system, method, path, &rebound, String::new()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let foreign = [("origin", "https://evil.example")];
    let train = "/api/v1/models/m/train-from/c";
    let (status, _) = ask(&system, "POST", train, &foreign, String::new()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let call = "/database.DatabaseService/Query";
    let kind = ("content-type", "application/grpc-web+proto");
    let (_, headers) = ask(
        &system,
        "POST",
        call,
        &[kind, foreign[0]],
        "\0\0\0\0\0".into(),
    )
    .await;
    assert_eq!(headers["grpc-status"], "7");
    // Load balancers name hosts as they like, and links lead here from everywhere.
    let (status, _) = ask(&system, "GET", "/healthz", &rebound, String::new()).await;
    assert_eq!(status, StatusCode::OK);
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    let (status, _) = ask(&system, "GET", "/", &link, String::new()).await;
    assert_eq!(status, StatusCode::OK);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_counts_for_one_port_and_wrong_tokens_are_slow() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.sqlite");
    let system = System::start_with(&store, Some(TOKEN.parse().unwrap())).await;
    let session = "/api/v1/session";
    let kind = ("content-type", "application/json");
    let token = |token: &str| json!({"token": token}).to_string();
    let (_, headers) = ask(&system, "POST", session, &[kind], token(TOKEN)).await;
    let cookie = headers["set-cookie"].to_str().unwrap().split(';').next();
    let cookie = ("cookie", cookie.unwrap());
    let other = format!("127.0.0.1:{}", system.http.port() ^ 1);
    let origin = format!("http://{other}");
    for (headers, expected) in [
        (vec![cookie], StatusCode::OK),
        (vec![cookie, ("origin", &*origin)], StatusCode::FORBIDDEN),
        (vec![cookie, ("host", &*other)], StatusCode::UNAUTHORIZED),
    ] {
        let (status, _) = ask(&system, "GET", "/api/v1/status", &headers, String::new()).await;
        assert_eq!(status, expected, "{headers:?}");
    }

    let began = Instant::now();
    let json = [kind];
    let wrong = (0..6).map(|_| ask(&system, "POST", session, &json, token("a-wrong-token")));
    let wrong = futures::future::join_all(wrong).await;
    assert!(
        wrong
            .iter()
            .all(|(status, _)| *status == StatusCode::UNAUTHORIZED)
    );
    assert!(began.elapsed() > Duration::from_secs(2));
    let began = Instant::now();
    let wrong = [("authorization", "Bearer another-wrong-token")];
    let (status, _) = ask(&system, "GET", "/api/v1/status", &wrong, String::new()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(began.elapsed() > Duration::from_millis(400));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_for_https_only_if_a_trusted_proxy_says_so() {
    let headers = [
        ("content-type", "application/json"),
        ("x-forwarded-proto", "https"),
    ];
    let mut secure = Vec::new();
    for proxies in ["", "192.0.2.1", "127.0.0.1"] {
        let directory = tempfile::tempdir().unwrap();
        let proxies = Proxies::read(proxies, String::new).unwrap();
        let store = directory.path().join("store.sqlite");
        let system = System::start_behind(&store, proxies).await;
        let token = json!({"token": TOKEN}).to_string();
        let (_, answer) = ask(&system, "POST", "/api/v1/session", &headers, token).await;
        let cookie = answer["set-cookie"].to_str().unwrap();
        secure.push(cookie.split("; ").any(|attribute| attribute == "Secure"));
        system.stop().await;
    }
    assert_eq!(secure, [false, false, true]);
}
