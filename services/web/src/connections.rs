//! The connections of the HTTP side: how long each may take for what, and how many there may be.
//!
//! ```text
//! accepted -- first bytes, 5 s --> requests: head 10 s, body 10 s between its parts --> idle 10 s --> closed
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use serving::{CancellationToken, FIRST_BYTE, Waiting, windows};
use tokio::net::{TcpListener, TcpStream};

use crate::proxies::{Identified, Proxies};

/// From the end of a response, or the start, to the end of the next request's head.
const HEAD: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The most concurrent requests of an HTTP/2 connection.
const STREAMS: u32 = 256;
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at the first bytes.
const LOOK: Duration = Duration::from_millis(20);
/// How HTTP/2 begins, and no request of HTTP/1.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// Serves until `shutdown`; then ends idle connections, and returns when the others have ended too.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    proxies: Proxies,
    shutdown: CancellationToken,
) {
    let proxies = Arc::new(proxies);
    let graceful = GracefulShutdown::new();
    let waiting = Waiting::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let place = waiting.enter(address.ip());
                let routes = Identified::new(routes.clone(), proxies.clone(), address.ip());
                let watcher = graceful.watcher();
                tokio::spawn(async move {
                    let version = tokio::select! {
                        version = tokio::time::timeout(FIRST_BYTE, version(&stream)) => version,
                        () = place.lost() => return,
                    };
                    drop(place);
                    if let Ok(Ok(version)) = version {
                        version.serve(stream, routes, watcher).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Looks at the first bytes, which stay where they are.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; HTTP2.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[..length] != HTTP2[..length] {
            return Ok(Version::Http1);
        }
        if length == HTTP2.len() {
            return Ok(Version::Http2);
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Version {
    /// Serves one connection to its end. Its errors are the peer's: it went away, or did not speak HTTP.
    async fn serve(self, stream: TcpStream, routes: Identified<Router>, watcher: Watcher) {
        // Without it, small responses would only be later.
        let _without_delay = stream.set_nodelay(true);
        let (io, service) = (TokioIo::new(stream), TowerToHyperService::new(routes));
        let ended = match self {
            Self::Http1 => {
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
                watcher.watch(builder.serve_connection(io, service)).await
            }
            Self::Http2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .timer(TokioTimer::new())
                    .keep_alive_interval(KEEPALIVE)
                    .max_concurrent_streams(STREAMS)
                    .max_pending_accept_reset_streams(windows::RESETS)
                    .initial_connection_window_size(windows::CONNECTION)
                    .initial_stream_window_size(windows::STREAM);
                watcher.watch(builder.serve_connection(io, service)).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP connection failed");
        }
    }
}
