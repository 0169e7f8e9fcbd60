//! Documents of a collection.

use axum::Json;
use axum::extract::rejection::{QueryRejection, StringRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serving::Problem;
use tonic::Status;
use utoipa::{IntoParams, ToSchema};

use super::names::{self, Collection, Document};
use super::window::window;
use super::{Answer, malformed, unreadable};
use crate::problem::{EdgeError, ProblemDetails};
use crate::workflows::Workflows;

#[derive(Serialize, ToSchema)]
pub(super) struct Collections {
    collections: Vec<String>,
}

/// The known collections.
#[utoipa::path(get, path = "/collections", tag = "documents", responses(
    (status = OK, body = Collections),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn collections(State(workflows): State<Workflows>) -> Answer<Json<Collections>> {
    let collections = workflows.collections().await?;
    Ok(Json(Collections { collections }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// A filter as MongoDB users know it, such as `{"label": "sport"}`: a JSON object. Without one, all documents.
    #[param(format = "json-object")]
    query: Option<String>,
    /// The most documents; by default the query's own `$limit`, or 50. It never goes beyond the query's own `$limit`.
    limit: Option<u64>,
    /// Counted from the query's own `$skip`.
    skip: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Documents {
    documents: Vec<Stored>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
    #[schema(format = "uuid")]
    id: String,
    /// The text as it was stored: the digits of numbers and the order of members are kept.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

/// Documents that match a filter.
#[utoipa::path(get, path = "/collections/{collection}/documents", tag = "documents",
    params(names::Collection, List),
    responses(
        (status = OK, body = Documents),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(
    State(workflows): State<Workflows>,
    Path(Collection { collection }): Path<Collection>,
    query: Result<Query<List>, QueryRejection>,
) -> Answer<Json<Documents>> {
    let Query(List { query, limit, skip }) = query.map_err(|error| malformed("query", &error))?;
    let query = window(query.as_deref().unwrap_or_default(), limit, skip)
        .map_err(|error| malformed("query", &error))?;
    let mut results = workflows.backends.query(&collection, query).await?;
    let mut documents = Vec::new();
    while let Some(result) = results.next().await? {
        documents.push(stored(result.id, result.data)?);
    }
    Ok(Json(Documents { documents }))
}

#[derive(Serialize, ToSchema)]
pub(super) struct Created {
    #[schema(format = "uuid")]
    id: String,
}

/// Stores a new document.
#[utoipa::path(post, path = "/collections/{collection}/documents", tag = "documents",
    params(names::Collection),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = CREATED, body = Created),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(workflows): State<Workflows>,
    Path(Collection { collection }): Path<Collection>,
    body: Result<String, StringRejection>,
) -> Answer<(StatusCode, Json<Created>)> {
    let body = body.map_err(unread)?;
    let id = workflows.create(&collection, body).await?;
    Ok((StatusCode::CREATED, Json(Created { id })))
}

/// One document.
#[utoipa::path(get, path = "/collections/{collection}/documents/{id}", tag = "documents",
    params(names::Document),
    responses(
        (status = OK, body = Stored),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn read(
    State(workflows): State<Workflows>,
    Path(Document { collection, id }): Path<Document>,
) -> Answer<Json<Stored>> {
    let data = workflows.backends.read(&collection, &id).await?;
    Ok(Json(stored(id, data)?))
}

/// Replaces a document.
#[utoipa::path(put, path = "/collections/{collection}/documents/{id}", tag = "documents",
    params(names::Document),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = NO_CONTENT),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn update(
    State(workflows): State<Workflows>,
    Path(Document { collection, id }): Path<Document>,
    body: Result<String, StringRejection>,
) -> Answer<StatusCode> {
    let body = body.map_err(unread)?;
    workflows.backends.update(&collection, &id, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a document.
#[utoipa::path(delete, path = "/collections/{collection}/documents/{id}", tag = "documents",
    params(names::Document),
    responses(
        (status = NO_CONTENT),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove(
    State(workflows): State<Workflows>,
    Path(Document { collection, id }): Path<Document>,
) -> Answer<StatusCode> {
    workflows.backends.delete(&collection, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn stored(id: String, data: String) -> Result<Stored, Status> {
    let data = RawValue::from_string(data)
        .map_err(|error| Problem::internal("a stored document is not valid", error))?;
    Ok(Stored { id, data })
}

pub(super) fn unread(rejection: StringRejection) -> EdgeError {
    let status = rejection.status();
    unreadable(rejection, status)
}
