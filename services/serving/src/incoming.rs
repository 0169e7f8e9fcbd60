//! Connections: accepts them and completes their TLS handshake before HTTP gets them.
//!
//! Each handshake is a task with a deadline, so a slow caller delays nobody. It uses the certificate current at that
//! time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::tls::Identity;

const HANDSHAKE: Duration = Duration::from_secs(20);
/// The most handshakes at a time; more callers wait to be accepted.
const HANDSHAKES: usize = 256;
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections with a completed handshake, until `closing`.
pub(crate) fn connections(
    listener: TcpListener,
    identity: Identity,
    closing: CancellationToken,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(HANDSHAKES));
        while let Some(stream) = next(&listener, &closing).await {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let (identity, ready) = (identity.clone(), ready.clone());
            tokio::spawn(async move {
                match handshake(stream, &identity).await {
                    // The receiver is gone if the server has ended.
                    Ok(stream) => drop(ready.send(Ok(stream)).await),
                    Err(error) => tracing::debug!(%error, "TLS handshake failed"),
                }
                drop(place);
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn next(listener: &TcpListener, closing: &CancellationToken) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return None,
        };
        match accepted {
            Ok((stream, _)) => return Some(stream),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn handshake(stream: TcpStream, identity: &Identity) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let accept = TlsAcceptor::from(identity.server()).accept(stream);
    tokio::time::timeout(HANDSHAKE, accept)
        .await
        .map_err(io::Error::from)?
}
