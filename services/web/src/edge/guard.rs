//! The layer that rejects calls without access.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serving::Problem;
use tonic::{Code, Status};

use super::session::SESSION_PATH;
use crate::access::Access;
use crate::problem::EdgeError;

/// Rejects calls of the API and of `/metrics` that [`Access`] does not admit. The client's own files, signing in and
/// `/healthz` are open.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let grpc = is_grpc(path);
    let open = path == SESSION_PATH || !(grpc || path.starts_with("/api/") || path == "/metrics");
    if open || access.admits(request.headers(), Instant::now()) {
        return next.run(request).await;
    }
    let message = "authentication required: send the token as `Authorization: Bearer`, or sign in";
    let status = Status::from(Problem::new(
        Code::Unauthenticated,
        "TOKEN_REQUIRED",
        message,
    ));
    if grpc {
        let mut response: Response = status.into_http();
        if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, kind.clone());
        }
        return response;
    }
    EdgeError(status).into_response()
}

/// gRPC's paths are those of its services, whatever the content type is.
fn is_grpc(path: &str) -> bool {
    path.starts_with("/business.") || path.starts_with("/database.")
}
