//! Connections that are silent, slow or too many do not keep others out.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running::{DATABASE, System};

const LIMIT: Duration = Duration::from_secs(60);

/// Sends the start of a request, and returns what comes until the server closes the connection.
async fn answer_to(system: &System, text: &str) -> String {
    let mut stream = TcpStream::connect(system.http).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A connection that is reset is closed too.
    let _reset = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_go_on_are_ended() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let post = "POST /api/v1/collections/c/documents HTTP/1.1\r\nhost: localhost\r\n\
        content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":";
    let table = [
        ("", ""),
        ("P", ""),
        ("PRI * HTT", ""),
        ("GET /healthz HTTP/1.1\r\nhost: loc", ""),
        (post, "HTTP/1.1 408"),
        (
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "HTTP/1.1 200",
        ),
    ];
    let began = Instant::now();
    let ended = table.map(|(text, expected)| {
        let system = &system;
        async move {
            let answer = timeout(LIMIT, answer_to(system, text)).await;
            let answer = answer.unwrap_or_else(|_| panic!("`{text}` is still open"));
            assert!(answer.starts_with(expected), "{text}: {answer}");
        }
    });
    join_all(ended).await;
    assert!(began.elapsed() > Duration::from_secs(4));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_keep_others_out() {
    const MANY: usize = 600;
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let database = std::net::SocketAddr::from(([127, 0, 0, 1], system.port(DATABASE)));
    let mut silent = Vec::new();
    for address in [system.http, database] {
        for number in 0..MANY {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                // The first byte of a TLS handshake, and of many methods of HTTP.
                let byte = if address == database { b"\x16" } else { b"P" };
                let _closed = stream.write_all(byte).await;
            }
            silent.push(stream);
        }
    }
    let began = Instant::now();
    let answer = system.json("GET", "/collections/c/documents", Value::Null);
    let (status, _) = timeout(LIMIT, answer).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let known = system.dependency(DATABASE).connect();
    let mut client =
        pspd_proto::database::database_service_client::DatabaseServiceClient::new(known);
    let request = pspd_proto::database::CreateRequest {
        collection: "c".to_owned(),
        data: "{}".to_owned(),
    };
    timeout(LIMIT, client.create(request))
        .await
        .unwrap()
        .unwrap();
    // Shorter than any connection's time.
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    drop(silent);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let documents = "/collections/c/documents";
    const MIB: usize = 1 << 20;
    let table = [
        (4 * MIB - 1024, StatusCode::CREATED, Value::Null),
        (
            4 * MIB - 1023,
            StatusCode::PAYLOAD_TOO_LARGE,
            "DOCUMENT_TOO_LARGE".into(),
        ),
        (
            4 * MIB,
            StatusCode::PAYLOAD_TOO_LARGE,
            "DOCUMENT_TOO_LARGE".into(),
        ),
        (
            4 * MIB + 1,
            StatusCode::PAYLOAD_TOO_LARGE,
            "MESSAGE_TOO_LARGE".into(),
        ),
        (
            5 * MIB,
            StatusCode::PAYLOAD_TOO_LARGE,
            "MESSAGE_TOO_LARGE".into(),
        ),
    ];
    for (size, status, reason) in table {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(size - 8));
        assert_eq!(body.len(), size);
        let answer = system
            .call("POST", documents, "application/json", body)
            .await;
        assert_eq!((answer.0, &answer.1["reason"]), (status, &reason), "{size}");
    }
    // A body of exactly the limit is read; one byte more is not.
    for (more, status, reason) in [
        ("", StatusCode::OK, Value::Null),
        (
            "x",
            StatusCode::PAYLOAD_TOO_LARGE,
            "MESSAGE_TOO_LARGE".into(),
        ),
    ] {
        let rows = format!("{},x\n", "word ".repeat(20_000)).repeat(41);
        let last = 4 * MIB - "text,label\n,x\n".len() - rows.len();
        let csv = format!("text,label\n{rows}{}{more},x\n", "x".repeat(last));
        assert_eq!(csv.len(), 4 * MIB + more.len());
        let answer = system.call("POST", "/models/m/train", "text/csv", csv);
        let (got, answer) = answer.await;
        assert_eq!((got, &answer["reason"]), (status, &reason), "{answer}");
    }
    system.stop().await;
}
