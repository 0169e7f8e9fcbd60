//! Signing in with the token, for browsers: they get a cookie that scripts cannot read.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::http::uri::Authority;
use axum::http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, malformed, unread_json};
use crate::access::{Access, cookie, no_cookie};
use crate::origin::host;
use crate::problem::ProblemDetails;
use crate::proxies::Client;

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
pub(super) async fn state(State(access): State<Arc<Access>>, request: Request) -> Json<Session> {
    let admits = |host: Authority| access.admits(request.headers(), &host, Instant::now());
    Json(Session {
        required: access.required(),
        signed_in: host(&request).is_some_and(admits),
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
    request: Request,
) -> Answer<(StatusCode, [(HeaderName, String); 1])> {
    let client = request.extensions().get::<Client>();
    let https = client.is_some_and(|client| client.https);
    let host = host(&request).ok_or_else(|| malformed("host", &"it is missing"))?;
    let body: Result<Json<SignIn>, JsonRejection> = Json::from_request(request, &()).await;
    let Json(SignIn { token }) = body.map_err(unread_json)?;
    let session = access.sign_in(&token, host, Instant::now()).await?;
    let cookie = [(SET_COOKIE, cookie(&session, https))];
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
