//! Counts and durations of what a process serves, in the OpenMetrics text format, which Prometheus reads.
//!
//! RPC metrics have the names that the gRPC libraries' Prometheus interceptors use, so that existing dashboards fit.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::error::Problem;

/// The path at which each server shows its metrics.
pub const PATH: &str = "/metrics";
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// From 0.5 ms to 16 s.
const SHORTEST: f64 = 0.0005;
const BUCKETS: u16 = 16;
/// Stands for methods that do not exist, so that callers cannot add series.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    grpc_service: String,
    grpc_method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_service: String,
    grpc_method: String,
    grpc_code: String,
}

/// A histogram of durations for each value of `L`.
#[derive(Debug, Clone)]
pub struct Durations<L>(Family<L, Histogram, fn() -> Histogram>);

impl<L: Clone + Eq + Hash> Durations<L> {
    pub fn observe(&self, labels: &L, took: Duration) {
        self.0.get_or_create(labels).observe(took.as_secs_f64());
    }
}

/// The metrics of one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// `SERVICE/METHOD` of all methods that exist.
    methods: Arc<BTreeSet<String>>,
    handled: Family<Handled, Counter>,
    handling: Durations<Method>,
    /// Connections that were refused.
    pub(crate) refused: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let handled = Family::default();
        registry.register(
            "grpc_server_handled",
            "Completed RPCs, by method and status",
            handled.clone(),
        );
        let refused = Counter::default();
        registry.register(
            "grpc_server_connections_refused",
            "Connections that were refused, because too many are open",
            refused.clone(),
        );
        let handling = durations(
            &mut registry,
            "grpc_server_handling",
            "Durations of RPCs, by method",
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            methods: Arc::new(methods()),
            handled,
            handling,
            refused,
        }
    }
}

impl Metrics {
    /// Adds histograms; the unit, seconds, is added to their name.
    pub fn durations<L>(&self, name: &str, help: &str) -> Durations<L>
    where
        L: EncodeLabelSet + Clone + Eq + Hash + Debug + Send + Sync + 'static,
    {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        durations(&mut registry, name, help)
    }

    /// Counts an RPC that has ended; `path` is `SERVICE/METHOD`.
    pub(crate) fn rpc(&self, path: &str, code: Code, took: Duration) {
        let known = self.methods.contains(path);
        let (service, method) = path
            .split_once('/')
            .filter(|_| known)
            .unwrap_or((UNKNOWN, UNKNOWN));
        let (grpc_service, grpc_method) = (service.to_owned(), method.to_owned());
        self.handled
            .get_or_create(&Handled {
                grpc_service: grpc_service.clone(),
                grpc_method: grpc_method.clone(),
                grpc_code: name(code),
            })
            .inc();
        let method = Method {
            grpc_service,
            grpc_method,
        };
        self.handling.observe(&method, took);
    }

    /// The answer to a request for the metrics.
    pub fn response(&self) -> Response {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        match text::encode(&mut text, &registry) {
            Ok(()) => ([(header::CONTENT_TYPE, KIND)], text).into_response(),
            Err(error) => {
                let problem = Problem::internal("failed to write the metrics", error);
                tonic::Status::from(problem).into_http()
            }
        }
    }
}

fn durations<L>(registry: &mut Registry, name: &str, help: &str) -> Durations<L>
where
    L: EncodeLabelSet + Clone + Eq + Hash + Debug + Send + Sync + 'static,
{
    let family: Family<L, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
        Histogram::new(exponential_buckets(SHORTEST, 2.0, BUCKETS))
    });
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    Durations(family)
}

fn methods() -> BTreeSet<String> {
    let sets = [
        pspd_proto::DESCRIPTORS,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = BTreeSet::new();
    for set in sets {
        let set = FileDescriptorSet::decode(set).expect("generated descriptors are valid");
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let (package, service) = (file.package(), service.name());
                    methods.insert(format!("{package}.{service}/{}", method.name()));
                }
            }
        }
    }
    methods
}

/// The code's name in the interceptors' metrics, which is that of Go's library.
fn name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        text::encode(&mut text, &metrics.registry.lock().unwrap()).unwrap();
        text
    }

    #[test]
    fn rpcs_are_counted_by_method_and_status() {
        let metrics = Metrics::default();
        let read = "database.DatabaseService/Read";
        metrics.rpc(read, Code::Ok, Duration::from_millis(3));
        metrics.rpc(read, Code::NotFound, Duration::from_millis(3));
        metrics.rpc("made.Up/Name1", Code::Unimplemented, Duration::ZERO);
        metrics.rpc("made.Up/Name2", Code::Unimplemented, Duration::ZERO);
        let text = text(&metrics);
        let labels = r#"grpc_service="database.DatabaseService",grpc_method="Read""#;
        for line in [
            format!("grpc_server_handled_total{{{labels},grpc_code=\"OK\"}} 1"),
            format!("grpc_server_handled_total{{{labels},grpc_code=\"NotFound\"}} 1"),
            format!("grpc_server_handling_seconds_count{{{labels}}} 2"),
            format!("grpc_server_handling_seconds_bucket{{le=\"0.002\",{labels}}} 0"),
            format!("grpc_server_handling_seconds_bucket{{le=\"0.004\",{labels}}} 2"),
            r#"grpc_server_handled_total{grpc_service="unknown",grpc_method="unknown",grpc_code="Unimplemented"} 2"#.to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
