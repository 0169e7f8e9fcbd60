//! The layer that rejects requests for another host, of other sites, of other content types, and without access.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serving::Problem;
use tonic::{Code, Status};

use super::session::SESSION_PATH;
use super::upload::LINES;
use crate::access::Access;
use crate::origin::{self, Hosts};
use crate::problem::EdgeError;

const HEALTH: &str = "/healthz";

/// Who may pass.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) hosts: Hosts,
    pub(crate) access: Arc<Access>,
}

/// What a path is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The client's own files.
    Client,
    Health,
    Metrics,
    /// The only part of the API that is open: callers sign in there.
    Session,
    Api,
    /// Its paths are those of its services, with any content type.
    Grpc,
}

impl Part {
    fn of(path: &str) -> Self {
        match path {
            HEALTH => Self::Health,
            "/metrics" => Self::Metrics,
            SESSION_PATH => Self::Session,
            path if path.starts_with("/api/") => Self::Api,
            path if path.starts_with("/business.") || path.starts_with("/database.") => Self::Grpc,
            _ => Self::Client,
        }
    }

    /// The content types that a path of this part takes.
    fn types(self, path: &str) -> &'static [&'static str] {
        match self {
            Self::Grpc => &["application/grpc"],
            _ if path.ends_with("/train") => &["application/json", "text/csv"],
            _ if path.ends_with("/upload") => &["application/json", LINES],
            _ => &["application/json"],
        }
    }
}

/// Rejects what the [`Gate`] does not admit. `/healthz` is open to all; the client's own files to every site that links
/// to them.
pub(crate) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let part = Part::of(request.uri().path());
    let Err(error) = gate.admit(part, &request) else {
        return next.run(request).await;
    };
    let shows_token = request.headers().contains_key(header::AUTHORIZATION);
    if shows_token && error.status.code() == Code::Unauthenticated {
        gate.access.slow_down().await;
    }
    if part != Part::Grpc {
        return error.into_response();
    }
    let mut response: Response = error.status.into_http();
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

impl Gate {
    fn admit(&self, part: Part, request: &Request) -> Result<(), EdgeError> {
        if part == Part::Health {
            return Ok(());
        }
        let host = origin::host(request).ok_or_else(|| {
            let message = "the request does not name one valid host";
            Status::from(Problem::invalid("host", "HOST_INVALID", message))
        })?;
        if !self.hosts.admit(&host) {
            let message = format!(
                "`{}` is not a name of this server: use an address, or add the name to `WEB_HOSTS`",
                host.host()
            );
            return Err(denied("HOST_UNKNOWN", message));
        }
        if part == Part::Client {
            return Ok(());
        }
        if !origin::is_own(request, &host) {
            let message = "requests of pages of other sites are rejected";
            return Err(denied("ORIGIN_FOREIGN", message.to_owned()));
        }
        let types = part.types(request.uri().path());
        if !origin::has_type(request, types) {
            let message = format!("the content type must be `{}`", types.join("` or `"));
            let problem = Problem::invalid("content-type", "CONTENT_TYPE_UNSUPPORTED", message);
            return Err(EdgeError::with(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
        }
        if part == Part::Session || self.access.admits(request.headers(), &host, Instant::now()) {
            return Ok(());
        }
        let message =
            "authentication required: send the token as `Authorization: Bearer`, or sign in";
        Err(Status::from(Problem::new(
            Code::Unauthenticated,
            "TOKEN_REQUIRED",
            message,
        ))
        .into())
    }
}

fn denied(reason: &'static str, message: String) -> EdgeError {
    Status::from(Problem::new(Code::PermissionDenied, reason, message)).into()
}
