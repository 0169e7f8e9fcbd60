//! The server: every protocol on one port, behind the same TLS. TLS agrees on the version of HTTP, and paths select the rest.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Json;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::tls::Identity;
use crate::{grpc, rest, soap, usage, websocket};

/// Where a caller asks for the server's processor time.
pub(crate) const USAGE: &str = "/usage";

/// What the server has used so far.
#[derive(Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
}

/// The server, which listens and accepts as soon as it is served.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Server {
    /// Listens on an address; port 0 chooses one.
    pub async fn bind(address: SocketAddr, identity: &Identity) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await;
        Ok(Self {
            listener: listener.with_context(|| format!("failed to listen on {address}"))?,
            acceptor: identity.server()?.into(),
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves forever.
    pub async fn serve(self) -> anyhow::Result<()> {
        let routes = grpc::routes()
            .await
            .merge(rest::routes())
            .merge(soap::routes())
            .merge(websocket::routes())
            .route(USAGE, get(async || Json(now())));
        loop {
            let (stream, _) = self.listener.accept().await.context("failed to accept")?;
            let (acceptor, routes) = (self.acceptor.clone(), routes.clone());
            // An error is a connection that ended, which the caller sees too.
            tokio::spawn(async move { drop(serve_one(stream, acceptor, routes).await) });
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    routes: axum::Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(acceptor.accept(stream).await?);
    Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(stream, TowerToHyperService::new(routes))
        .await
}

fn now() -> Usage {
    Usage {
        cpu_seconds: usage::processor_time().as_secs_f64(),
    }
}
