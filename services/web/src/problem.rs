//! A gRPC status as RFC 9457 `application/problem+json`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serving::{Problem, error, trace};
use tonic::{Code, Status};
use utoipa::ToSchema;

/// An error as callers of the JSON edge get it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemDetails {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// In UPPER_SNAKE_CASE, for programs.
    reason: String,
    /// The service that failed.
    service: String,
    /// Finds the request in the services' logs.
    trace_id: String,
}

/// An error of the JSON edge.
#[derive(Debug)]
pub(crate) struct EdgeError {
    pub(crate) status: Status,
    http: StatusCode,
}

impl EdgeError {
    /// An error that HTTP describes better than gRPC's codes.
    pub(crate) fn with(http: StatusCode, problem: Problem) -> Self {
        let status = problem.into();
        Self { status, http }
    }
}

impl From<Status> for EdgeError {
    fn from(status: Status) -> Self {
        let http = match &*error::describe(&status).reason {
            "MESSAGE_TOO_LARGE" | "DOCUMENT_TOO_LARGE" => StatusCode::PAYLOAD_TOO_LARGE,
            _ => http_status(status.code()),
        };
        Self { status, http }
    }
}

impl IntoResponse for EdgeError {
    fn into_response(self) -> Response {
        let status = self.http;
        let described = error::describe(&self.status);
        let context = trace::current();
        let or = |value: String, default: &str| {
            if value.is_empty() {
                default.to_owned()
            } else {
                value
            }
        };
        let details = ProblemDetails {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.status.message().to_owned(),
            reason: or(described.reason, "UNDESCRIBED"),
            service: or(described.service, &context.service),
            trace_id: or(described.trace_id, &context.trace_id),
        };
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (status, Json(details)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(delay) = described.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, delay.as_secs().max(1).into());
        }
        response
    }
}

/// The mapping in the comments of `google.rpc.Code`, but for FAILED_PRECONDITION: such a request is valid, and conflicts
/// with what is stored.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
