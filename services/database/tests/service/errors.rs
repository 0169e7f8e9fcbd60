//! What callers receive: code, reason, and the details that programs rely on.

use std::time::Duration;

use futures::future::join_all;
use prost::Message as _;
use pspd_proto::database::ReadRequest;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::server::{Client, Server, place};

/// Of services that are asked while they drain.
const ATTEMPTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    story(&server.client().await).await;
}

/// The code and the reason; every error says which service it is from, and its trace.
fn reported(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status}"));
    assert_eq!(info.metadata["service"], "database-server");
    assert_eq!(info.metadata["trace_id"].len(), 32);
    (status.code(), info.reason.clone())
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_error_details().error_info().unwrap().metadata[key].clone()
}

fn invalid(reason: &str) -> (Code, String) {
    (Code::InvalidArgument, reason.to_owned())
}

pub(crate) async fn story(client: &Client) {
    let missing = client.read("c", "none").await.unwrap_err();
    assert_eq!(
        reported(&missing),
        (Code::NotFound, "DOCUMENT_NOT_FOUND".to_owned())
    );
    let details = missing.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "c/none");

    let malformed = client
        .create_text("c", r#"{"a": 1, b}"#.to_owned())
        .await
        .unwrap_err();
    assert_eq!(reported(&malformed), invalid("DOCUMENT_MALFORMED"));
    assert_eq!(metadata(&malformed, "offset"), "9");
    let details = malformed.get_error_details();
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "data"
    );

    let named = client.create("not a name", &json!({})).await.unwrap_err();
    assert_eq!(reported(&named), invalid("COLLECTION_NAME_INVALID"));

    let operator = client
        .query("c", r#"{"a": {"$near": 1}}"#)
        .await
        .unwrap_err();
    assert_eq!(reported(&operator), invalid("QUERY_OPERATOR_UNKNOWN"));
    assert_eq!(metadata(&operator, "operator"), "$near");
    let operand = client.query("c", r#"{"a": {"$in": 1}}"#).await.unwrap_err();
    assert_eq!(reported(&operand), invalid("QUERY_OPERAND_INVALID"));
    assert_eq!(metadata(&operand, "operator"), "$in");
    let fields = |number: u32| {
        let fields = (0..number).map(|n| format!(r#""f{n}": 1"#));
        format!(
            r#"{{"$sort": {{{}}}}}"#,
            fields.collect::<Vec<_>>().join(",")
        )
    };
    client.query("c", &fields(32)).await.unwrap();
    for number in [33, 3000] {
        let sort = client.query("c", &fields(number)).await.unwrap_err();
        assert_eq!(reported(&sort), invalid("QUERY_OPERAND_INVALID"));
        assert_eq!(metadata(&sort, "operator"), "$sort");
    }
    let query = client.query("c", r#"{"a": "#).await.unwrap_err();
    assert_eq!(reported(&query), invalid("QUERY_MALFORMED"));
    assert_eq!(metadata(&query, "offset"), "6");

    let sizes = [
        (4 << 20, "DOCUMENT_TOO_LARGE"),
        ((4 << 20) + (1 << 20), "MESSAGE_TOO_LARGE"),
    ];
    for (size, reason) in sizes {
        let data = json!({"a": "x".repeat(size)}).to_string();
        let large = client.create_text("c", data).await.unwrap_err();
        assert_eq!(reported(&large), invalid(reason), "{size}");
    }
    for name in ["a", "\\u0000"] {
        let data = format!(r#"{{"{name}": "b\\u0000 \u0000"}}"#);
        let nul = client.create_text("c", data.clone()).await.unwrap_err();
        assert_eq!(reported(&nul), invalid("DOCUMENT_MALFORMED"), "{data}");
        let offset = data.find(if name == "a" { " \\u" } else { "\\u" }).unwrap();
        let offset = offset + usize::from(name == "a");
        assert_eq!(metadata(&nul, "offset"), offset.to_string(), "{data}");
    }

    let id = client.create("c", &json!({"a": "x"})).await.unwrap();

    // Of exactly the limit, and one byte more.
    let request = |length: usize| ReadRequest {
        collection: "c".to_owned(),
        id: "x".repeat(length),
    };
    let others = request(4 << 20).encoded_len() - (4 << 20);
    let fitting = request((4 << 20) - others);
    assert_eq!(fitting.encoded_len(), 4 << 20);
    let fits = client.0.clone().read(fitting).await.unwrap_err();
    assert_eq!(fits.code(), Code::NotFound);
    let larger = request((4 << 20) - others + 1);
    let large = client.0.clone().read(larger).await.unwrap_err();
    assert_eq!(reported(&large), invalid("MESSAGE_TOO_LARGE"));

    // Texts with U+0000 are those of no document, and what is quoted is short enough to be read.
    let absent = (Code::NotFound, "DOCUMENT_NOT_FOUND".to_owned());
    let deleted = client.delete("c", "a\0b").await.unwrap_err();
    assert_eq!(reported(&deleted), absent);
    let updated = client.update("c", "a\0b", &json!({})).await.unwrap_err();
    assert_eq!(reported(&updated), absent);
    let reads = ["a\0b", id.as_str()].map(|id| client.read("c", id));
    let [nul, read] = <[_; 2]>::try_from(join_all(reads).await).unwrap();
    assert_eq!(reported(&nul.unwrap_err()), absent);
    read.unwrap();
    for query in [r#"{"a": "x\u0000"}"#, r#"{"_id": {"$in": ["\u0000"]}}"#] {
        assert!(client.query("c", query).await.unwrap().is_empty());
    }
    let long = "é".repeat(30_000);
    let collection = client.create(&long, &json!({})).await.unwrap_err();
    assert_eq!(reported(&collection), invalid("COLLECTION_NAME_INVALID"));
    let operator = format!(r#"{{"a": {{"${long}": 1}}}}"#);
    let operator = client.query("c", &operator).await.unwrap_err();
    assert_eq!(reported(&operator), invalid("QUERY_OPERATOR_UNKNOWN"));

    // The largest that there may be comes back with gRPC's usual limit on what a client takes.
    let data = json!({"a": "x".repeat((4 << 20) - 1024 - 8)}).to_string();
    let id = client.create_text("c", data).await.unwrap();
    client.read("c", &id).await.unwrap();
}

/// The answer to a call while the service stops.
async fn refused_while_draining() -> Status {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let client = server.client().await;
    let id = client.create("c", &json!({})).await.unwrap();
    server.signal("-TERM");
    loop {
        if let Err(status) = client.read("c", &id).await {
            return status;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_while_draining_reports_when_to_retry() {
    let mut refused = refused_while_draining().await;
    for _ in 1..ATTEMPTS {
        // The service answers so for a moment only: on a busy machine the connection may be closed before the next call.
        if refused.code() != Code::Unavailable || !refused.details().is_empty() {
            break;
        }
        refused = refused_while_draining().await;
    }
    assert_eq!(
        reported(&refused),
        (Code::Unavailable, "DRAINING".to_owned())
    );
    let details = refused.get_error_details();
    let delay = details.retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_secs(1)));
}
