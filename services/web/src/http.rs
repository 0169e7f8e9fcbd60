//! The HTTP side: routes, limits, security headers, compression, traces, logs and metrics.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Version, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use pspd_proto::business::business_service_server::BusinessServiceServer;
use pspd_proto::database::database_service_server::DatabaseServiceServer;
use serving::trace::Context;
use serving::{CancellationToken, MESSAGE_LIMIT, Metrics, metrics};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::{DeadlineBody, TimeoutBody};

use crate::access::Access;
use crate::business::Business;
use crate::documents::Documents;
use crate::metrics::Requests;
use crate::origin::Hosts;
use crate::proxies::{Client, Proxies};
use crate::workflows::Workflows;
use crate::{assets, connections, edge};

const DRAIN: Duration = Duration::from_secs(10);
/// For the whole body of a request, and between two of its parts.
const BODY: Duration = Duration::from_secs(60);
const BODY_PART: Duration = Duration::from_secs(10);

/// Only the client's own files run, and they call only this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'self'; form-action 'self'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types angular";

const SECURITY: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

#[derive(Clone)]
struct Observer {
    service: Arc<str>,
    requests: Requests,
}

/// Combines the client, the JSON edge, gRPC-Web, health and metrics.
pub(crate) fn routes(
    name: &str,
    workflows: Workflows,
    hosts: Hosts,
    access: Access,
    business: BusinessServiceServer<Business>,
    metrics: Metrics,
) -> Router {
    let access = Arc::new(access);
    let gate = edge::Gate {
        hosts: hosts.with(name),
        access: access.clone(),
    };
    let observer = Observer {
        service: name.into(),
        requests: Requests::new(&metrics),
    };
    let documents = DatabaseServiceServer::new(Documents::new(workflows.clone()))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let grpc_web = Routes::new(business)
        .add_service(documents)
        .into_axum_router()
        .reset_fallback()
        .layer(GrpcWebLayer::new());
    Router::new()
        .merge(edge::routes(workflows, access))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(metrics::PATH, get(async move || metrics.response()))
        .merge(grpc_web)
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(MESSAGE_LIMIT))
        .layer(from_fn(body_limits))
        .layer(from_fn_with_state(Arc::new(gate), edge::guard))
        .layer(from_fn(secure))
        .layer(from_fn_with_state(observer, observe))
        .layer(CompressionLayer::new())
}

/// Serves until `shutdown`, then waits for open requests until a deadline.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    proxies: Proxies,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = connections::serve(listener, routes, proxies, shutdown.clone()) => {}
        () = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        } => {
            tracing::warn!("cancelled the HTTP requests that were open at the drain deadline");
        }
    }
}

/// Bounds how long the body of a request may take. HTTP/2 requests may be streams of any length; such a connection is
/// bounded by its windows and its keep-alive.
async fn body_limits(request: Request, next: Next) -> Response {
    let request = match request.version() {
        Version::HTTP_2 => request,
        _ => request
            .map(|body| Body::new(DeadlineBody::new(BODY, TimeoutBody::new(BODY_PART, body)))),
    };
    next.run(request).await
}

async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let context = Context::of_request(observer.service.clone(), request.headers());
    let context = Arc::new(context);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "client".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let client = request.extensions().get::<Client>();
    let client = client.map(|client| tracing::field::display(client.address));
    let response = context.clone().scope(next.run(request)).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    observer.requests.observe(&route, status, took);
    let milliseconds = took.as_secs_f64() * 1e3;
    let (service, trace_id, span_id) = (&context.service, &*context.trace_id, &*context.span_id);
    let parent_id = context.parent_id.as_deref();
    let attributes: [(_, &dyn Display); 3] = [
        ("http.request.method", &method),
        ("http.route", &route),
        ("http.response.status_code", &status),
    ];
    let name = format!("{method} {route}");
    serving::export::span(&context, &name, took, &attributes, status >= 500);
    tracing::info!(%service, %method, route, status, client, milliseconds, trace_id, span_id, parent_id, "http");
    response
}
