//! REST: JSON over HTTP/1.1 and HTTP/2. Streams are lines of JSON (NDJSON), by convention of both sides.
//!
//! Lines that are ready are sent together. HTTP/2 would else have a frame for each line, and its library ends connections
//! with many small frames (`ENHANCE_YOUR_CALM`, too_many_data_frames).

use anyhow::{Context as _, bail};
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_extra::json_lines::JsonLines;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::calls::Calls;
use crate::connector::Connector;
use crate::handler::{self, Refused};
use crate::pool::{Pool, pool};
use crate::records::{ListRequest, Record, Summary};

const ECHO: &str = "/v1/echo";
const RECORDS: &str = "/v1/records";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
/// About 16 KiB of small records.
const TOGETHER: usize = 128;

pub(crate) fn routes() -> axum::Router {
    axum::Router::new()
        .route(ECHO, post(echo))
        .route(RECORDS, get(list).post(upload))
}

async fn echo(Json(record): Json<Record>) -> Json<Record> {
    Json(handler::echo(record))
}

async fn list(Query(request): Query<ListRequest>) -> Result<Response, Refused> {
    let records = handler::list(request.count)?;
    Ok(([(CONTENT_TYPE, LINES)], lines(records)).into_response())
}

async fn upload(mut records: JsonLines<Record>) -> Result<Json<Summary>, Refused> {
    let mut summary = Summary::default();
    while let Some(record) = records.next().await {
        let record = record.map_err(|error| Refused(error.to_string()))?;
        handler::take(&mut summary, &record);
    }
    Ok(Json(summary))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.0).into_response()
    }
}

/// The caller's side.
#[derive(Clone)]
pub(crate) struct Caller {
    pool: Pool,
    base: String,
}

impl Caller {
    pub(crate) fn new(connector: &Connector) -> Self {
        Self {
            pool: pool(connector),
            base: format!("https://{}", connector.target.name),
        }
    }

    /// Sends a request; a status of an error is one.
    async fn send(
        &self,
        method: Method,
        path: &str,
        (kind, body): (&str, Body),
    ) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, kind)
            .body(body)?;
        let response = self.pool.request(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response)
    }
}

async fn json<T: DeserializeOwned>(
    response: http::Response<hyper::body::Incoming>,
) -> anyhow::Result<T> {
    let body = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).context("the answer is not the expected JSON")
}

/// A body that is written while the records are made.
fn lines(records: impl Iterator<Item = Record> + Send + 'static) -> Body {
    let together = stream::iter(records).ready_chunks(TOGETHER);
    Body::from_stream(together.map(|records| {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, &record)?;
            lines.push(b'\n');
        }
        Ok::<_, serde_json::Error>(lines)
    }))
}

#[tonic::async_trait]
impl Calls for Caller {
    async fn echo(&mut self, record: Record) -> anyhow::Result<Record> {
        let body = serde_json::to_vec(&record)?.into();
        json(self.send(Method::POST, ECHO, (JSON, body)).await?).await
    }

    async fn list(&mut self, count: u32) -> anyhow::Result<Vec<Record>> {
        let path = format!("{RECORDS}?count={count}");
        let response = self.send(Method::GET, &path, (JSON, Body::empty())).await?;
        let bytes = response.into_body().into_data_stream();
        let bytes = StreamReader::new(bytes.map_err(std::io::Error::other));
        let mut lines = FramedRead::new(bytes, LinesCodec::new());
        let mut records = Vec::new();
        while let Some(line) = lines.try_next().await? {
            records.push(serde_json::from_str(&line)?);
        }
        Ok(records)
    }

    async fn upload(&mut self, records: Vec<Record>) -> anyhow::Result<Summary> {
        let body = lines(records.into_iter());
        json(self.send(Method::POST, RECORDS, (LINES, body)).await?).await
    }
}
