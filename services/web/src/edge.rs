//! The JSON edge under `/api/v1`: the same operations as gRPC, for browsers and curl.

use std::convert::Infallible;

use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use pspd_proto::ai::TrainingData;
use pspd_proto::business::{BackendState, ClassifyRequest, Summary, SummaryRequest, TrainRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serving::Problem;
use tonic::{Code, Status};

use crate::business::summaries;
use crate::problem::EdgeError;
use crate::workflows::Workflows;

type Answer<T = Json<Value>> = Result<T, EdgeError>;

/// The routes; paths are relative to `/api/v1`.
pub(crate) fn routes(workflows: Workflows) -> Router {
    Router::new()
        .route("/status", get(status))
        .route(
            "/collections/{collection}/documents",
            get(list).post(create),
        )
        .route(
            "/collections/{collection}/documents/{id}",
            get(read).put(update).delete(remove),
        )
        .route("/classify", post(classify))
        .route("/models/{id}/train", post(train))
        .route("/models/{id}/train-from/{collection}", post(train_from))
        .route("/summary", get(summary))
        .fallback(unknown)
        .with_state(workflows)
}

async fn unknown() -> EdgeError {
    let message = "there is no such path under `/api/v1`";
    Status::from(Problem::new(Code::NotFound, "PATH_UNKNOWN", message)).into()
}

async fn status(State(workflows): State<Workflows>) -> Json<Value> {
    let backends = workflows.backends.states().await;
    Json(json!({"backends": states(&backends), "timestamp": Timestamp::now().to_string()}))
}

#[derive(Deserialize)]
struct List {
    query: Option<String>,
    limit: Option<u64>,
    skip: Option<u64>,
}

async fn list(
    State(workflows): State<Workflows>,
    Path(collection): Path<String>,
    query: Result<Query<List>, QueryRejection>,
) -> Answer {
    let Query(List { query, limit, skip }) = query.map_err(|error| malformed("query", &error))?;
    let text = query
        .filter(|query| !query.trim().is_empty())
        .unwrap_or_else(|| "{}".to_owned());
    let mut filter: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| malformed("query", &error))?;
    filter.insert("$limit".to_owned(), limit.unwrap_or(50).into());
    filter.insert("$skip".to_owned(), skip.unwrap_or(0).into());
    let mut results = workflows
        .backends
        .query(&collection, Value::from(filter).to_string())
        .await?;
    let mut documents = Vec::new();
    while let Some(result) = results.next().await? {
        documents.push(json!({"id": result.id, "data": document(&result.data)?}));
    }
    Ok(Json(json!({"documents": documents})))
}

async fn create(
    State(workflows): State<Workflows>,
    Path(collection): Path<String>,
    body: Result<String, axum::extract::rejection::StringRejection>,
) -> Answer<(StatusCode, Json<Value>)> {
    let body = body.map_err(|error| malformed("body", &error))?;
    let id = workflows.backends.create(&collection, body).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": id}))))
}

async fn read(
    State(workflows): State<Workflows>,
    Path((collection, id)): Path<(String, String)>,
) -> Answer {
    let data = workflows.backends.read(&collection, &id).await?;
    Ok(Json(json!({"id": id, "data": document(&data)?})))
}

async fn update(
    State(workflows): State<Workflows>,
    Path((collection, id)): Path<(String, String)>,
    body: Result<String, axum::extract::rejection::StringRejection>,
) -> Answer<StatusCode> {
    let body = body.map_err(|error| malformed("body", &error))?;
    workflows.backends.update(&collection, &id, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(workflows): State<Workflows>,
    Path((collection, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    workflows.backends.delete(&collection, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Classify {
    text: String,
    #[serde(default)]
    model_id: String,
    #[serde(default)]
    collection: String,
    #[serde(default)]
    store: bool,
}

async fn classify(
    State(workflows): State<Workflows>,
    body: Result<Json<Classify>, JsonRejection>,
) -> Answer {
    let Json(body) = body.map_err(|error| malformed("body", &error))?;
    let request = ClassifyRequest {
        collection: body.collection,
        text: body.text,
        model_id: body.model_id,
        reference: String::new(),
    };
    let classified = workflows.classify(request, body.store).await?;
    let mut answer = json!({
        "label": classified.label,
        "confidence": classified.confidence,
        "model_id": classified.model_id,
    });
    if !classified.id.is_empty() {
        answer["id"] = classified.id.into();
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
struct Training {
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    text: String,
    label: String,
}

async fn train(
    State(workflows): State<Workflows>,
    Path(id): Path<String>,
    request: axum::extract::Request,
) -> Answer {
    let csv = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/csv"));
    let body: Result<Bytes, BytesRejection> = Bytes::from_request(request, &()).await;
    let body = body.map_err(|error| malformed("body", &error))?;
    let examples = if csv {
        csv::Reader::from_reader(&*body)
            .deserialize()
            .collect::<Result<Vec<Example>, _>>()
            .map_err(|error| malformed("body", &error))?
    } else {
        serde_json::from_slice::<Training>(&body)
            .map_err(|error| malformed("body", &error))?
            .examples
    };
    let data = examples
        .into_iter()
        .map(|Example { text, label }| TrainingData {
            input: text,
            expected_output: label,
        });
    let trained = workflows.train(&id, data.collect()).await?;
    Ok(Json(
        json!({"model_id": trained.model_id, "accuracy": trained.accuracy, "examples": trained.examples}),
    ))
}

async fn train_from(
    State(workflows): State<Workflows>,
    Path((model_id, collection)): Path<(String, String)>,
) -> Answer {
    let trained = workflows
        .train_from(TrainRequest {
            collection,
            model_id,
        })
        .await?;
    Ok(Json(
        json!({"model_id": trained.model_id, "accuracy": trained.accuracy, "examples": trained.examples}),
    ))
}

#[derive(Deserialize)]
struct Watch {
    #[serde(default)]
    collection: String,
    #[serde(default)]
    model_id: String,
    interval_ms: Option<u32>,
}

async fn summary(
    State(workflows): State<Workflows>,
    query: Result<Query<Watch>, QueryRejection>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let Query(watch) = query.map_err(|error| malformed("query", &error))?;
    let request = SummaryRequest {
        collection: watch.collection,
        model_id: watch.model_id,
        interval_milliseconds: watch.interval_ms.unwrap_or(2000),
    };
    let events = summaries(workflows, request)
        .map(|summary| Ok(Event::default().data(summary_json(&summary).to_string())));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn summary_json(summary: &Summary) -> Value {
    json!({
        "backends": states(&summary.backends),
        "documents": summary.documents,
        "documents_by_label": summary.documents_by_label,
        "model_accuracy": summary.model_accuracy,
        "predictions_made": summary.predictions_made,
        "average_confidence": summary.average_confidence,
        "timestamp": summary.timestamp,
    })
}

fn states(backends: &[BackendState]) -> Value {
    let state = |state: &BackendState| json!({"name": state.name, "serving": state.serving, "detail": state.detail});
    backends.iter().map(state).collect()
}

fn document(data: &str) -> Result<Value, Status> {
    serde_json::from_str(data)
        .map_err(|error| Problem::internal("a stored document can't be read", error).into())
}

fn malformed(part: &str, error: &dyn std::fmt::Display) -> Status {
    Problem::invalid(
        part,
        "REQUEST_MALFORMED",
        format!("the {part} can't be read: {error}"),
    )
    .into()
}
