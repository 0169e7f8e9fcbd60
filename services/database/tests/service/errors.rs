//! What callers are told: code, reason, and the details that programs rely on.

use std::time::Duration;

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
fn told(status: &Status) -> (Code, String) {
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
        told(&missing),
        (Code::NotFound, "DOCUMENT_NOT_FOUND".to_owned())
    );
    let details = missing.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "c/none");

    let malformed = client
        .create_text("c", r#"{"a": 1, b}"#.to_owned())
        .await
        .unwrap_err();
    assert_eq!(told(&malformed), invalid("DOCUMENT_MALFORMED"));
    assert_eq!(metadata(&malformed, "offset"), "9");
    let details = malformed.get_error_details();
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "data"
    );

    let named = client.create("not a name", &json!({})).await.unwrap_err();
    assert_eq!(told(&named), invalid("COLLECTION_NAME_INVALID"));

    let operator = client
        .query("c", r#"{"a": {"$near": 1}}"#)
        .await
        .unwrap_err();
    assert_eq!(told(&operator), invalid("QUERY_OPERATOR_UNKNOWN"));
    assert_eq!(metadata(&operator, "operator"), "$near");
    let operand = client.query("c", r#"{"a": {"$in": 1}}"#).await.unwrap_err();
    assert_eq!(told(&operand), invalid("QUERY_OPERAND_INVALID"));
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
        assert_eq!(told(&sort), invalid("QUERY_OPERAND_INVALID"));
        assert_eq!(metadata(&sort, "operator"), "$sort");
    }
    let query = client.query("c", r#"{"a": "#).await.unwrap_err();
    assert_eq!(told(&query), invalid("QUERY_MALFORMED"));
    assert_eq!(metadata(&query, "offset"), "6");

    let sizes = [
        (4 << 20, "DOCUMENT_TOO_LARGE"),
        ((4 << 20) + (1 << 20), "MESSAGE_TOO_LARGE"),
    ];
    for (size, reason) in sizes {
        let data = json!({"a": "x".repeat(size)}).to_string();
        let large = client.create_text("c", data).await.unwrap_err();
        assert_eq!(told(&large), invalid(reason), "{size}");
    }
    // The largest that there may be comes back with gRPC's usual limit on what a client takes.
    let data = json!({"a": "x".repeat((4 << 20) - 1024 - 8)}).to_string();
    let id = client.create_text("c", data).await.unwrap();
    client.read("c", &id).await.unwrap();
}

/// What a call is told once the service has begun to stop.
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
async fn a_call_while_draining_is_told_when_to_come_back() {
    let mut refused = refused_while_draining().await;
    for _ in 1..ATTEMPTS {
        // The service tells it for a moment only: on a busy machine the connection may be closed before the next call.
        if refused.code() != Code::Unavailable || !refused.details().is_empty() {
            break;
        }
        refused = refused_while_draining().await;
    }
    assert_eq!(told(&refused), (Code::Unavailable, "DRAINING".to_owned()));
    let details = refused.get_error_details();
    let delay = details.retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_secs(1)));
}
