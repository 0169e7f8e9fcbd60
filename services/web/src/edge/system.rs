//! The services' state, once and continuously.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use pspd_proto::business::{BackendState, HistorySample, Summary, SummaryRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, malformed};
use crate::problem::ProblemDetails;
use crate::workflows::{DEFAULT_MODEL, Workflows};

#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    backends: Vec<Backend>,
    timestamp: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Backend {
    name: String,
    serving: bool,
    detail: String,
    /// How long the answer took.
    milliseconds: f32,
}

/// Whether the three services are serving.
#[utoipa::path(get, path = "/status", tag = "system", responses((status = OK, body = Status)))]
pub(super) async fn status(State(workflows): State<Workflows>) -> Json<Status> {
    let backends = workflows.backends.states().await;
    Json(Status {
        backends: backends.into_iter().map(Into::into).collect(),
        timestamp: Timestamp::now().to_string(),
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Watch {
    /// `documents` by default.
    #[serde(default)]
    collection: String,
    /// `default` by default.
    #[serde(default)]
    model_id: String,
    /// 2000 by default; 0 ends the stream after one event.
    interval_ms: Option<u32>,
}

/// Values that a service does not report in time are left out.
#[derive(Serialize, ToSchema)]
pub(super) struct Dashboard {
    backends: Vec<Backend>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
    documents_by_label: HashMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_accuracy: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions_made: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_confidence: Option<f32>,
    timestamp: String,
}

/// The live dashboard as Server-Sent Events, each a JSON object.
#[utoipa::path(get, path = "/summary", tag = "system", params(Watch), responses(
    (status = OK, body = Dashboard, content_type = "text/event-stream"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn summary(
    State(workflows): State<Workflows>,
    query: Result<Query<Watch>, QueryRejection>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let Query(watch) = query.map_err(|error| malformed("query", &error))?;
    let request = SummaryRequest {
        collection: watch.collection,
        model_id: watch.model_id,
        interval_milliseconds: watch.interval_ms.unwrap_or(2000),
    };
    let events = workflows.summaries(request).map(|summary| {
        let data = Event::default().json_data(Dashboard::from(summary));
        Ok(data.unwrap_or_default())
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Past {
    /// `default` by default.
    model_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct History {
    /// From the oldest to the newest, at intervals of some seconds. None yet for a model that was not asked for before.
    samples: Vec<Sample>,
}

/// Values that a service did not report in time are left out.
#[derive(Serialize, ToSchema)]
struct Sample {
    /// How long ago it was.
    age_milliseconds: u32,
    /// Whether each service was serving, by its name.
    serving: BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_accuracy: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions_made: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_confidence: Option<f32>,
}

/// The dashboard's values of the last minutes.
#[utoipa::path(get, path = "/history", tag = "system", params(Past), responses(
    (status = OK, body = History),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(workflows): State<Workflows>,
    query: Result<Query<Past>, QueryRejection>,
) -> Answer<Json<History>> {
    let Query(Past { model_id }) = query.map_err(|error| malformed("query", &error))?;
    let model = model_id.as_deref().unwrap_or(DEFAULT_MODEL);
    let samples = workflows.history_of(model).samples;
    Ok(Json(History {
        samples: samples.into_iter().map(Into::into).collect(),
    }))
}

impl From<HistorySample> for Sample {
    fn from(sample: HistorySample) -> Self {
        Self {
            age_milliseconds: sample.age_milliseconds,
            serving: sample.serving.into_iter().collect(),
            model_accuracy: sample.model_accuracy,
            predictions_made: sample.predictions_made,
            average_confidence: sample.average_confidence,
        }
    }
}

impl From<BackendState> for Backend {
    fn from(state: BackendState) -> Self {
        Self {
            name: state.name,
            serving: state.serving,
            detail: state.detail,
            milliseconds: state.milliseconds,
        }
    }
}

impl From<Summary> for Dashboard {
    fn from(summary: Summary) -> Self {
        Self {
            backends: summary.backends.into_iter().map(Into::into).collect(),
            documents: summary.documents,
            documents_by_label: summary.documents_by_label,
            model_accuracy: summary.model_accuracy,
            predictions_made: summary.predictions_made,
            average_confidence: summary.average_confidence,
            timestamp: summary.timestamp,
        }
    }
}
