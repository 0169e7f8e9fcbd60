//! Classification and training.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::header;
use pspd_proto::business::{ClassifyRequest, Example, TrainResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::names::{self, Model, ModelAndCollection};
use super::{Answer, malformed, unread_json, unreadable};
use crate::problem::ProblemDetails;
use crate::workflows::Workflows;

#[derive(Deserialize, ToSchema)]
pub(super) struct Classify {
    /// At most 131,072 bytes, and not only spaces.
    #[schema(min_length = 1, max_length = 131_072, pattern = r"\S")]
    text: String,
    /// `default` by default.
    #[serde(default)]
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._-]*$")]
    model_id: String,
    /// `documents` by default.
    #[serde(default)]
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9_-]*$")]
    collection: String,
    #[serde(default)]
    store: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Classified {
    label: String,
    /// From 0 to 1.
    confidence: f32,
    model_id: String,
    /// Present only if the text was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    id: Option<String>,
}

/// Predicts a text's label and, if requested, stores both.
#[utoipa::path(post, path = "/classify", tag = "models", request_body = Classify, responses(
    (status = OK, body = Classified),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn classify(
    State(workflows): State<Workflows>,
    body: Result<Json<Classify>, JsonRejection>,
) -> Answer<Json<Classified>> {
    let Json(body) = body.map_err(unread_json)?;
    let request = ClassifyRequest {
        collection: body.collection,
        text: body.text,
        model_id: body.model_id,
        reference: String::new(),
    };
    let classified = workflows.classify(request, body.store).await?;
    Ok(Json(Classified {
        label: classified.label,
        confidence: classified.confidence,
        model_id: classified.model_id,
        id: Some(classified.id).filter(|id| !id.is_empty()),
    }))
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Training {
    #[schema(min_items = 1)]
    examples: Vec<Labelled>,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Labelled {
    /// At most 131,072 bytes, and not only spaces.
    #[schema(min_length = 1, max_length = 131_072, pattern = r"\S")]
    text: String,
    /// At most 128 bytes, and not only spaces.
    #[schema(min_length = 1, max_length = 128, pattern = r"\S")]
    label: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Trained {
    model_id: String,
    /// From 0 to 1.
    accuracy: f32,
    examples: i32,
}

/// Trains a model with examples: JSON, or CSV with the first line `text,label`.
#[utoipa::path(post, path = "/models/{id}/train", tag = "models",
    params(names::Model),
    request_body(content((Training = "application/json"), (String = "text/csv"))),
    responses(
        (status = OK, body = Trained),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn train(
    State(workflows): State<Workflows>,
    Path(Model { id }): Path<Model>,
    request: Request,
) -> Answer<Json<Trained>> {
    let examples = examples(request).await?;
    let trained = workflows.train_with(&id, examples, Default::default());
    Ok(Json(trained.await?.into()))
}

/// Trains a model with the stored documents that have a text and a label.
#[utoipa::path(post, path = "/models/{id}/train-from/{collection}", tag = "models",
    params(ModelAndCollection),
    responses(
        (status = OK, body = Trained),
        (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn train_from(
    State(workflows): State<Workflows>,
    Path(ModelAndCollection { id, collection }): Path<ModelAndCollection>,
) -> Answer<Json<Trained>> {
    let trained = workflows.train_from(&collection, &id, Default::default());
    Ok(Json(trained.await?.into()))
}

async fn examples(request: Request) -> Answer<Vec<Example>> {
    let csv = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/csv"));
    let body: Result<Bytes, BytesRejection> = Bytes::from_request(request, &()).await;
    let body = body.map_err(|rejection| {
        let status = rejection.status();
        unreadable(rejection, status)
    })?;
    let examples = if csv {
        csv::Reader::from_reader(&*body)
            .deserialize()
            .collect::<Result<Vec<Labelled>, _>>()
            .map_err(|error| malformed("body", &error))?
    } else {
        serde_json::from_slice::<Training>(&body)
            .map_err(|error| malformed("body", &error))?
            .examples
    };
    let example = |Labelled { text, label }| Example { text, label };
    Ok(examples.into_iter().map(example).collect())
}

impl From<TrainResponse> for Trained {
    fn from(trained: TrainResponse) -> Self {
        Self {
            model_id: trained.model_id,
            accuracy: trained.accuracy,
            examples: trained.examples,
        }
    }
}
