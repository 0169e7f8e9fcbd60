//! The JSON edge under `/api/v1`: the same operations as gRPC, for curl and scripts.
//!
//! Paths, parameters and shapes are declared once, on the handlers: both the routes and the OpenAPI document are made
//! from these declarations.

mod documents;
mod guard;
mod models;
mod names;
mod session;
mod system;
mod upload;
mod window;

use std::error::Error;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serving::{MESSAGE_LIMIT, Problem};
use tonic::{Code, Status};
use tower_http::timeout::TimeoutError;
use utoipa::OpenApi as _;
use utoipa::openapi::SecurityRequirement;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Access;
use crate::problem::EdgeError;
use crate::workflows::Workflows;

pub(crate) use guard::{Gate, guard};

const BASE: &str = "/api/v1";

type Answer<T> = Result<T, EdgeError>;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "pspd web server",
        description = "Documents, text classification and the state of the reference deployment. Errors are RFC 9457 problems.",
    ),
    tags(
        (name = "documents", description = "Collections of JSON documents"),
        (name = "models", description = "Text classification"),
        (name = "system", description = "The three services' state"),
        (name = "session", description = "Signing in, where a token is required"),
    ),
)]
struct Document;

/// The routes, which are served below [`BASE`].
pub(crate) fn routes(workflows: Workflows, access: Arc<Access>) -> Router {
    let (router, mut document) = declared(workflows, access.clone()).split_for_parts();
    if access.required() {
        let scheme =
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
        document.security = Some(vec![SecurityRequirement::new::<_, _, &str>("token", [])]);
    }
    let openapi = get(move || async move { Json(document) });
    router
        .route(&format!("{BASE}/openapi.json"), openapi)
        .route(&format!("{BASE}/{{*path}}"), axum::routing::any(unknown))
}

fn declared(workflows: Workflows, access: Arc<Access>) -> OpenApiRouter {
    let api = OpenApiRouter::new()
        .routes(routes!(documents::collections))
        .routes(routes!(documents::list, documents::create))
        .routes(routes!(
            documents::read,
            documents::update,
            documents::remove
        ))
        .routes(routes!(upload::upload))
        .routes(routes!(models::classify))
        .routes(routes!(models::train))
        .routes(routes!(models::train_from))
        .routes(routes!(system::status))
        .routes(routes!(system::summary))
        .routes(routes!(system::history))
        .with_state(workflows);
    let session = OpenApiRouter::new()
        .routes(routes!(session::state, session::sign_in, session::sign_out))
        .with_state(access);
    OpenApiRouter::with_openapi(Document::openapi()).nest(BASE, api.merge(session))
}

pub(crate) async fn unknown() -> EdgeError {
    let message = format!("no such path under `{BASE}`: `{BASE}/openapi.json` lists all of them");
    Status::from(Problem::new(Code::NotFound, "PATH_UNKNOWN", message)).into()
}

/// The error for a body that was not read, or is not what it should be.
fn unreadable<E: Error + 'static>(error: E, status: StatusCode) -> EdgeError {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("the body is larger than {MESSAGE_LIMIT} bytes");
        let problem = Problem::invalid("body", "MESSAGE_TOO_LARGE", message)
            .with("limit", MESSAGE_LIMIT.to_string());
        return Status::from(problem).into();
    }
    if is_late(&error) {
        let problem = Problem::new(
            Code::DeadlineExceeded,
            "BODY_TOO_SLOW",
            "the body was sent too slowly",
        );
        return EdgeError::with(StatusCode::REQUEST_TIMEOUT, problem);
    }
    malformed("body", &error).into()
}

/// Whether a deadline of the body caused it.
fn is_late(error: &(dyn Error + 'static)) -> bool {
    error.is::<TimeoutError>() || error.source().is_some_and(is_late)
}

fn unread_json(rejection: JsonRejection) -> EdgeError {
    let status = rejection.status();
    unreadable(rejection, status)
}

fn malformed(part: &str, error: &dyn std::fmt::Display) -> Status {
    Problem::invalid(
        part,
        "REQUEST_MALFORMED",
        format!("the {part} is not valid: {error}"),
    )
    .into()
}
