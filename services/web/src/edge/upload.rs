//! Documents in bulk: a JSON array, or JSON Lines.

use axum::Json;
use axum::extract::rejection::StringRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use futures::stream;
use pspd_proto::business::{UploadFailure, UploadRequest, UploadResponse};
use serde::Serialize;
use serde_json::value::RawValue;
use tonic::Code;
use utoipa::ToSchema;

use super::documents::unread;
use super::names::{self, Collection};
use super::{Answer, malformed};
use crate::problem::{ProblemDetails, http_status};
use crate::workflows::Workflows;

/// The content type of one document per line.
pub(super) const LINES: &str = "application/x-ndjson";

#[derive(Serialize, ToSchema)]
pub(super) struct Uploaded {
    stored: u64,
    failed: u64,
    /// At most 100, in the order of the documents.
    failures: Vec<Refused>,
}

#[derive(Serialize, ToSchema)]
struct Refused {
    /// From 1: the place in the array, or the line.
    position: u64,
    /// That of a request for this document alone.
    status: u16,
    detail: String,
}

/// Stores new documents: a JSON array, or one document per line. A document that is not stored does not keep back others.
#[utoipa::path(post, path = "/collections/{collection}/upload", tag = "documents",
    params(names::Collection),
    request_body(content((Vec<Object> = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = OK, body = Uploaded),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn upload(
    State(workflows): State<Workflows>,
    Path(Collection { collection }): Path<Collection>,
    headers: HeaderMap,
    body: Result<String, StringRejection>,
) -> Answer<Json<Uploaded>> {
    names::check_collection(&collection)?;
    let body = body.map_err(unread)?;
    let lines = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .to_ascii_lowercase()
            .starts_with(LINES.as_bytes())
    });
    let texts: Vec<&str> = match lines {
        true => body.lines().collect(),
        false => {
            let documents: Vec<&RawValue> =
                serde_json::from_str(&body).map_err(|error| malformed("body", &error))?;
            documents.into_iter().map(RawValue::get).collect()
        }
    };
    let numbered = texts.into_iter().zip(1_u64..);
    let documents = numbered.filter(|(text, _)| !text.trim().is_empty());
    let documents = documents.map(|(text, position)| {
        Ok(UploadRequest {
            collection: collection.clone(),
            data: text.to_owned(),
            reference: position.to_string(),
        })
    });
    let documents: Vec<_> = documents.collect();
    let uploaded = workflows.upload(stream::iter(documents)).await?;
    Ok(Json(uploaded.into()))
}

impl From<UploadResponse> for Uploaded {
    fn from(uploaded: UploadResponse) -> Self {
        let refused = |UploadFailure { reference, failure }| {
            let failure = failure.unwrap_or_default();
            Refused {
                position: reference.parse().unwrap_or_default(),
                status: http_status(Code::from(failure.code)).as_u16(),
                detail: failure.message,
            }
        };
        let mut failures: Vec<_> = uploaded.failures.into_iter().map(refused).collect();
        failures.sort_by_key(|refused| refused.position);
        Self {
            stored: uploaded.stored,
            failed: uploaded.failed,
            failures,
        }
    }
}
