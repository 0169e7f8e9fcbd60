//! A pool of HTTP connections, as `reqwest` has it.

use axum::body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::connector::{Connector, Version};

pub(crate) type Pool = Client<Connector, Body>;

/// Its connections speak the connector's version of HTTP.
pub(crate) fn pool(connector: &Connector) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // Known before the first connection, so that callers who begin together share it.
        .http2_only(connector.version == Version::Http2)
        .build(connector.clone())
}
