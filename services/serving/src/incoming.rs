//! Connections: accepts them and completes their TLS handshake before HTTP gets them.
//!
//! Each handshake is a task with a deadline and a place, so a slow or silent caller delays nobody. It uses the certificate
//! current at that time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::tls::Identity;
use crate::waiting::{FIRST_BYTE, Waiting};

const HANDSHAKE: Duration = Duration::from_secs(20);
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
        let waiting = Waiting::default();
        while let Some((stream, address)) = next(&listener, &closing).await {
            let place = waiting.enter(address.ip());
            let (identity, ready) = (identity.clone(), ready.clone());
            tokio::spawn(async move {
                let greeted = tokio::select! {
                    greeted = greet(stream, &identity) => greeted,
                    () = place.lost() => Err(io::Error::other("newer connections took its place")),
                };
                drop(place);
                match greeted {
                    // The receiver is gone if the server has ended.
                    Ok(stream) => drop(ready.send(Ok(stream)).await),
                    Err(error) => tracing::debug!(%address, %error, "TLS handshake failed"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn next(
    listener: &TcpListener,
    closing: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return None,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for the first byte, and completes the handshake.
async fn greet(stream: TcpStream, identity: &Identity) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    tokio::time::timeout(FIRST_BYTE, stream.readable()).await??;
    let accept = TlsAcceptor::from(identity.server()).accept(stream);
    tokio::time::timeout(HANDSHAKE, accept).await?
}
