//! Signing in with the token, for browsers: they get a cookie that scripts cannot read.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, malformed};
use crate::access::{Access, cookie, no_cookie};
use crate::problem::ProblemDetails;

/// Open to all callers: they sign in here.
pub(super) const SESSION_PATH: &str = "/api/v1/session";

#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// Whether a token is required.
    required: bool,
    signed_in: bool,
}

/// Whether the caller may use the API.
#[utoipa::path(get, path = "/session", tag = "session", responses((status = OK, body = Session)))]
pub(super) async fn state(State(access): State<Arc<Access>>, headers: HeaderMap) -> Json<Session> {
    Json(Session {
        required: access.required(),
        signed_in: access.admits(&headers, Instant::now()),
    })
}

#[derive(Deserialize, ToSchema)]
pub(super) struct SignIn {
    token: String,
}

/// Exchanges the token for a session cookie.
#[utoipa::path(post, path = "/session", tag = "session", request_body = SignIn, responses(
    (status = NO_CONTENT),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn sign_in(
    State(access): State<Arc<Access>>,
    headers: HeaderMap,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Answer<(StatusCode, [(HeaderName, String); 1])> {
    let Json(SignIn { token }) = body.map_err(|error| malformed("body", &error))?;
    let session = access.sign_in(&token, Instant::now())?;
    let cookie = [(SET_COOKIE, cookie(&session, &headers))];
    Ok((StatusCode::NO_CONTENT, cookie))
}

/// Ends the session.
#[utoipa::path(delete, path = "/session", tag = "session", responses((status = NO_CONTENT)))]
pub(super) async fn sign_out(
    State(access): State<Arc<Access>>,
    headers: HeaderMap,
) -> (StatusCode, [(HeaderName, String); 1]) {
    access.sign_out(&headers);
    (StatusCode::NO_CONTENT, [(SET_COOKIE, no_cookie())])
}
