//! Errors for callers: each refusal and failure as a [`Problem`], with a reason that programs can rely on.

use std::time::Duration;

use prost::Message;
use serving::{MESSAGE_LIMIT, Problem};
use tonic::{Code, Status};

use crate::indexes::valid_collection;
use crate::json::{Object, nul};
use crate::query;
use crate::store::Fault;

/// Room for a message's other fields beside a document.
pub(crate) const DATA_LIMIT: usize = MESSAGE_LIMIT - 1024;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Refuses an invalid name of a collection.
pub(crate) fn check_collection(name: &str) -> Result<(), Status> {
    if valid_collection(name) {
        return Ok(());
    }
    let message = format!(
        "`{name}` is not a valid collection name: use 1 to 64 letters, digits, `_` and `-`"
    );
    Err(Problem::invalid("collection", "COLLECTION_NAME_INVALID", message).into())
}

/// Refuses a message that is over the limit, but was read so that its fields can be named.
pub(crate) fn check_message(message: &impl Message) -> Result<(), Status> {
    let length = message.encoded_len();
    if length <= MESSAGE_LIMIT {
        return Ok(());
    }
    let message = format!("the message has {length} bytes, more than {MESSAGE_LIMIT}");
    let problem = Problem::new(Code::InvalidArgument, "MESSAGE_TOO_LARGE", message);
    Err(problem.with("limit", MESSAGE_LIMIT.to_string()).into())
}

/// Refuses data that is not one JSON object of at most 4 MiB (less 1 KiB for the rest of a message), or has U+0000.
pub(crate) fn check_data(data: &str) -> Result<(), Status> {
    if data.len() > DATA_LIMIT {
        let message = format!(
            "the document has {} bytes, more than {DATA_LIMIT}",
            data.len()
        );
        return Err(Problem::invalid("data", "DOCUMENT_TOO_LARGE", message)
            .with("limit", DATA_LIMIT.to_string())
            .into());
    }
    let (offset, message) = match (serde_json::from_str::<Object>(data), nul(data)) {
        (Ok(_), None) => return Ok(()),
        (Ok(_), Some(offset)) => (
            offset,
            format!("the document has U+0000, which texts and names cannot have, at byte {offset}"),
        ),
        (Err(error), _) => {
            let offset = query::offset(data, &error);
            (
                offset,
                format!("the data is not a JSON object, at byte {offset}: {error}"),
            )
        }
    };
    Err(Problem::invalid("data", "DOCUMENT_MALFORMED", message)
        .with("offset", offset.to_string())
        .into())
}

pub(crate) fn bad_query(fault: query::Fault) -> Status {
    let mut problem = Problem::invalid("query", fault.reason, fault.message);
    if let Some(operator) = fault.operator {
        problem = problem.with("operator", operator);
    }
    if let Some(offset) = fault.offset {
        problem = problem.with("offset", offset.to_string());
    }
    problem.into()
}

pub(crate) fn missing(collection: &str, id: &str) -> Status {
    let message = format!("document `{id}` does not exist in collection `{collection}`");
    Problem::missing(
        "document",
        &format!("{collection}/{id}"),
        "DOCUMENT_NOT_FOUND",
        message,
    )
    .into()
}

pub(crate) fn draining() -> Status {
    let message = "the service is stopping: retry in a moment";
    Problem::new(Code::Unavailable, "DRAINING", message)
        .retry_after(RETRY_AFTER)
        .into()
}

/// `field` is what the store may refuse.
pub(crate) fn failed(fault: Fault, field: &str) -> Status {
    let unavailable = |reason, fault: Fault| {
        tracing::warn!(%fault, "the store is not available");
        Problem::new(Code::Unavailable, reason, "the store is not available")
            .retry_after(RETRY_AFTER)
    };
    match fault {
        Fault::Full(_) => {
            tracing::error!(%fault, "the store is full");
            let message = "the store has no space left: nothing was changed, and reads still work";
            Problem::new(Code::ResourceExhausted, "STORE_FULL", message)
        }
        Fault::Unreachable(_) | Fault::ReadOnly(_) => unavailable("STORE_UNREACHABLE", fault),
        Fault::Busy(_) => unavailable("STORE_BUSY", fault),
        Fault::Slow(_) => {
            let message = "the store timed out: use a narrower filter, or declare an index";
            Problem::new(Code::DeadlineExceeded, "STORE_TOO_SLOW", message)
        }
        Fault::Refused(cause) => {
            let message = format!("the store refused the value: {cause}");
            Problem::invalid(field, "STORE_REFUSED", message)
        }
        Fault::Damaged(_) => {
            tracing::error!(%fault, "the store is damaged");
            Problem::new(Code::DataLoss, "STORE_DAMAGED", "the store is damaged")
        }
        Fault::Documents { ids, cause } => {
            let names = ids.join(",");
            tracing::error!(ids = names, cause, "documents are damaged");
            let message = format!("damaged documents: {names}; all others can be read");
            Problem::new(Code::DataLoss, "DOCUMENT_DAMAGED", message).with_names("documents", &ids)
        }
        Fault::Moved(_) => {
            tracing::error!(%fault, "writes are refused");
            let message = "the store's file was removed or replaced: nothing was changed";
            Problem::new(Code::DataLoss, "STORE_MOVED", message)
        }
        Fault::Failed(_) => Problem::internal("the store failed", fault),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_documents_are_checked() {
        for name in ["a", "A_b-9", &"x".repeat(64)] {
            assert!(check_collection(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a/b", "é", "a;b", &"x".repeat(65)] {
            assert!(check_collection(name).is_err(), "{name}");
        }
        for data in ["{}", r#"{"a": [1, null]}"#] {
            assert!(check_data(data).is_ok(), "{data}");
        }
        for data in [
            "",
            "1",
            "[{}]",
            r#"{"a": 1e999}"#,
            "{} {}",
            r#"{"a": "\ud800"}"#,
        ] {
            assert!(check_data(data).is_err(), "{data}");
        }
    }
}
