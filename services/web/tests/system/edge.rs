//! The JSON edge, over the real services.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt as _;
use pspd_proto::business::business_service_client::BusinessServiceClient;
use pspd_proto::business::{ClassifyRequest, ingest_result::Outcome};
use pspd_proto::database::CreateRequest;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use serde_json::{Value, json};
use serving::testing::{Authority, object_text};
use tonic::Code;

use crate::running::{DATABASE, System, WEB, data};

const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_stored_through_the_edge_and_survive_a_restart() {
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

/// Whatever a document's text is, it comes back as it went in, from its first brace to its last.
#[tokio::test(flavor = "multi_thread")]
async fn texts_of_documents_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let documents = "/collections/texts/documents";
    let mut random = fastrand::Rng::with_seed(11);
    let mut text = || object_text(&mut |below| random.usize(..below));
    let mut stored = Vec::new();
    for _ in 0..40 {
        let (created, updated) = (text(), text());
        let (status, answer) = system.text("POST", documents, created.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let id = answer["id"].as_str().unwrap().to_owned();
        let path = format!("{documents}/{id}");
        for text in [created, updated.clone()] {
            let expected = format!(r#"{{"id":"{id}","data":{}}}"#, text.trim());
            let (status, _) = system.text("PUT", &path, text).await;
            assert_eq!(status, StatusCode::NO_CONTENT);
            let read = system.text("GET", &path, String::new()).await;
            assert_eq!(read, (StatusCode::OK, expected));
        }
        stored.push(format!(r#"{{"id":"{id}","data":{}}}"#, updated.trim()));
    }
    let listed = system.text("GET", documents, String::new()).await;
    let expected = format!(r#"{{"documents":[{}]}}"#, stored.join(","));
    assert_eq!(listed, (StatusCode::OK, expected));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_uploaded_in_bulk_with_their_texts() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let path = "/collections/bulk/upload";
    let good = [r#"{"n": 1.10, "a": 12345678901234567890}"#, r#"{ "n":2 }"#];
    let [first, second] = good;
    let cases = [
        ("application/json", format!("[{first},\n[], {second}]"), 2),
        (
            "Application/X-NDJSON",
            format!("{first}\r\n\n{{\"n\": oops}}\n{second}"),
            3,
        ),
    ];
    for (kind, body, bad) in cases {
        let (status, answer) = system.call("POST", path, kind, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let counts = [&answer["stored"], &answer["failed"]];
        assert_eq!(counts, [&json!(2), &json!(1)], "{answer}");
        let failure = &answer["failures"][0];
        assert_eq!(
            [&failure["position"], &failure["status"]],
            [&json!(bad), &json!(400)],
            "{answer}"
        );
        let detail = failure["detail"].as_str().unwrap();
        assert!(detail.contains("not a JSON object"), "{detail}");
    }
    let (_, listed) = system
        .text("GET", "/collections/bulk/documents", String::new())
        .await;
    for text in good {
        assert_eq!(listed.matches(text).count(), 2, "{listed}");
    }

    let refused = [
        (
            path,
            "application/json",
            r#"{"n": 1}"#,
            400,
            "REQUEST_MALFORMED",
        ),
        (path, "text/csv", "n\n1\n", 415, "CONTENT_TYPE_UNSUPPORTED"),
        (
            "/collections/a.b/upload",
            "application/json",
            "[]",
            400,
            "COLLECTION_NAME_INVALID",
        ),
    ];
    for (path, kind, body, status, reason) in refused {
        let (code, problem) = system.call("POST", path, kind, body.to_owned()).await;
        assert_eq!(code.as_u16(), status, "{problem}");
        assert_eq!(problem["reason"], reason, "{problem}");
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_that_of_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let began = Instant::now();
    let sample = loop {
        let (status, answer) = system.json("GET", "/history", Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        // The service itself is serving in each sample.
        if let Some(sample) = answer["samples"].as_array().unwrap().last() {
            break sample.clone();
        }
        assert!(began.elapsed() < TIMEOUT, "no sample");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(sample["serving"][WEB], json!(true), "{sample}");
    assert_eq!(sample["serving"].as_object().unwrap().len(), 3, "{sample}");
    assert!(sample["age_milliseconds"].is_u64(), "{sample}");
    let (status, answer) = system
        .json("GET", "/history?model_id=new", Value::Null)
        .await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"samples": []})));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_keeps_its_order_its_limits_and_its_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let documents = "/collections/sorted/documents";
    for (z, a) in [(1, 2), (2, 1), (1, 1), (2, 2)] {
        let document = format!(r#"{{"z": {z}, "a": {a}, "n": 1234567890123456{z}}}"#);
        let (status, _) = system.text("POST", documents, document).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    let sort = r#""$sort":{"z":1,"a":1}"#;
    let table = [
        (format!("{{{sort}}}"), "", vec![11, 12, 21, 22]),
        (format!("{{{sort},\"$limit\":3}}"), "", vec![11, 12, 21]),
        (
            format!("{{{sort},\"$limit\":3}}"),
            "&limit=2&skip=2",
            vec![21],
        ),
        (format!("{{{sort},\"$skip\":1}}"), "", vec![12, 21, 22]),
        (
            format!("{{{sort},\"$skip\":1}}"),
            "&skip=1&limit=1",
            vec![21],
        ),
        (
            format!("{{\"n\":12345678901234562,{sort}}}"),
            "",
            vec![21, 22],
        ),
    ];
    for (query, parameters, expected) in table {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("{documents}?query={encoded}{parameters}");
        let (status, answer) = system.json("GET", &path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let found = answer["documents"].as_array().unwrap().iter();
        let found: Vec<i64> = found
            .map(|found| &found["data"])
            .map(|data| data["z"].as_i64().unwrap() * 10 + data["a"].as_i64().unwrap())
            .collect();
        assert_eq!(found, expected, "{query}{parameters}");
    }
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
            std::fs::read_to_string(data("train.csv")).unwrap(),
        )
        .await;
    assert_eq!(
        (status, &trained["examples"]),
        (StatusCode::OK, &json!(716)),
        "{trained}"
    );
    system.stop().await;

    let system = System::start(&store).await;
    let mut business = BusinessServiceClient::new(system.dependency(WEB).connect());
    let held_out = std::fs::read_to_string(data("held-out.csv")).unwrap();
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
    let began = Instant::now();
    loop {
        let (status, state) = system.json("GET", "/status", Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let backends = state["backends"].as_array().unwrap();
        let serving: Vec<_> = backends.iter().map(|backend| &backend["serving"]).collect();
        if serving == [&json!(true); 3] {
            break;
        }
        // A service that does not answer in time is reported as not serving.
        assert!(began.elapsed() < TIMEOUT, "{state}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_certificate_of_the_deployment_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let create = || CreateRequest {
        collection: "c".to_owned(),
        data: "{}".to_owned(),
    };
    let mut known = DatabaseServiceClient::new(system.dependency(DATABASE).connect());
    assert!(known.create(create()).await.is_ok());
    let port = system.port(DATABASE);
    let foreign =
        Authority::default().dependency("database-server", (Ipv4Addr::LOCALHOST, port).into());
    let mut foreign = DatabaseServiceClient::new(foreign.connect());
    let refused = tokio::time::timeout(Duration::from_secs(10), foreign.create(create()))
        .await
        .unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_cached_in_parts_and_compressed_and_unknown_api_paths_are_problems() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let get = |path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::get(system.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        system.send(request.body(Body::empty()).unwrap())
    };
    let (status, headers, page) = get("/", &[]).await;
    assert_eq!(
        (status, &headers["cache-control"]),
        (StatusCode::OK, &"no-cache".parse().unwrap())
    );
    let page = String::from_utf8(page).unwrap();
    let start = page.find("main-").unwrap();
    let script = format!("/{}", page[start..].split('"').next().unwrap());

    let (_, headers, whole) = get(&script, &[]).await;
    assert_eq!(
        headers["cache-control"],
        "public, max-age=31536000, immutable"
    );
    let tag = headers["etag"].to_str().unwrap().to_owned();
    let (status, _, body) = get(&script, &[("if-none-match", &tag)]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    let (status, headers, part) = get(&script, &[("range", "bytes=10-19")]).await;
    assert_eq!(
        (status, &part[..]),
        (StatusCode::PARTIAL_CONTENT, &whole[10..20])
    );
    let place = format!("bytes 10-19/{}", whole.len());
    assert_eq!(headers["content-range"], place.as_str());
    let (status, _, _) = get(&script, &[("range", "bytes=99999999-")]).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
    let (_, headers, body) = get(&script, &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(headers["content-encoding"], "br");
    assert!(body.len() < whole.len() / 2);

    for path in [
        "/api",
        "/api/",
        "/api/v2/status",
        "/api/v1",
        "/api/v1/",
        "/api/v1/no",
    ] {
        let (status, headers, body) = get(path, &[]).await;
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!(
            (
                status,
                headers["content-type"].to_str().unwrap(),
                &problem["reason"]
            ),
            (
                StatusCode::NOT_FOUND,
                "application/problem+json",
                &json!("PATH_UNKNOWN")
            ),
            "{path}"
        );
    }
    system.stop().await;
}
