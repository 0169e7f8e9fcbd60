//! Spans for an OpenTelemetry collector, by OTLP over gRPC, if `OTEL_EXPORTER_OTLP_ENDPOINT` names one.
//!
//! No request waits for it: spans are sent in batches, and spans that a slow or absent collector does not accept are
//! dropped and counted. One exporter serves the process. Source: the OpenTelemetry protocol specification, 1.x.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use tokio::sync::{mpsc, oneshot};

use crate::channel::{Dependency, Link, deadline};
use crate::trace::Context;

/// The most spans that wait for the collector.
const WAITING: usize = 4096;
/// The most spans of one export.
const BATCH: usize = 512;
/// How long a span waits for more spans.
const DELAY: Duration = Duration::from_millis(500);
/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

struct Exporter {
    items: mpsc::Sender<Item>,
    dropped: Arc<AtomicU64>,
}

enum Item {
    Span(Arc<str>, Box<Span>),
    /// Answered when all earlier spans are exported or dropped.
    Flush(oneshot::Sender<()>),
}

/// Starts to export to a collector, unless the exporter already runs.
pub(crate) fn start(collector: &Dependency) {
    EXPORTER.get_or_init(|| {
        let (items, waiting) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let client = TraceServiceClient::new(collector.connect());
        tokio::spawn(export(waiting, client, dropped.clone()));
        Exporter { items, dropped }
    });
}

/// Exports the span of a finished request; `attributes` are OpenTelemetry's.
pub fn span(
    context: &Context,
    name: &str,
    took: Duration,
    attributes: &[(&str, &dyn Display)],
    failed: bool,
) {
    let Some(exporter) = EXPORTER.get().filter(|_| context.sampled()) else {
        return;
    };
    let end = nanoseconds();
    let span = Span {
        trace_id: bytes(&context.trace_id),
        span_id: bytes(&context.span_id),
        parent_span_id: context.parent_id.as_deref().map(bytes).unwrap_or_default(),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        flags: u32::from(context.flags),
        name: name.to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: end.saturating_sub(took.as_nanos() as u64),
        end_time_unix_nano: end,
        attributes: attributes
            .iter()
            .map(|(key, value)| attribute(key, value.to_string()))
            .collect(),
        status: failed.then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..Span::default()
    };
    let item = Item::Span(context.service.clone(), Box::new(span));
    if exporter.items.try_send(item).is_err() {
        exporter.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until the spans so far are exported, for the duration of one export at most.
pub(crate) async fn flush() {
    let Some(exporter) = EXPORTER.get() else {
        return;
    };
    let (done, flushed) = oneshot::channel();
    let flush = async {
        if exporter.items.send(Item::Flush(done)).await.is_ok() {
            // An exporter that has ended has nothing to flush.
            let _ended = flushed.await;
        }
    };
    if tokio::time::timeout(ANSWER, flush).await.is_err() {
        tracing::warn!("the last spans did not reach the collector in time");
    }
}

async fn export(
    mut waiting: mpsc::Receiver<Item>,
    mut client: TraceServiceClient<Link>,
    dropped: Arc<AtomicU64>,
) {
    let mut reached = true;
    while let Some(first) = waiting.recv().await {
        let mut batch: BTreeMap<Arc<str>, Vec<Span>> = BTreeMap::new();
        let (mut count, mut flushed) = (0, None);
        let mut take = |item| match item {
            Item::Span(service, span) => {
                batch.entry(service).or_default().push(*span);
                count += 1;
                count < BATCH
            }
            Item::Flush(done) => {
                flushed = Some(done);
                false
            }
        };
        if take(first) {
            let gather = async { while waiting.recv().await.is_some_and(&mut take) {} };
            // At the timeout, the batch is what was received until then.
            let _elapsed = tokio::time::timeout(DELAY, gather).await;
        }
        let request = ExportTraceServiceRequest {
            resource_spans: batch.into_iter().map(of_service).collect(),
        };
        let answer = tokio::time::timeout(ANSWER, client.export(deadline(request, ANSWER))).await;
        let error = match answer {
            Ok(Ok(_)) => None,
            Ok(Err(status)) => Some(status.message().to_owned()),
            Err(_) => Some(format!("no answer within {} s", ANSWER.as_secs())),
        };
        if let Some(error) = &error {
            dropped.fetch_add(count as u64, Ordering::Relaxed);
            if reached {
                tracing::warn!(error, "failed to export spans");
            }
        } else if !reached {
            let dropped = dropped.load(Ordering::Relaxed);
            tracing::info!(dropped, "spans are exported again");
        }
        reached = error.is_none();
        if let Some(done) = flushed {
            // The receiver may have stopped waiting.
            let _ = done.send(());
        }
    }
}

fn of_service((service, spans): (Arc<str>, Vec<Span>)) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attribute("service.name", service.to_string())],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "pspd".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn attribute(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

fn nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64)
}

/// The bytes of an id, which is hexadecimal.
fn bytes(id: &str) -> Vec<u8> {
    let digits = id.as_bytes().chunks_exact(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.filter_map(byte).collect()
}
