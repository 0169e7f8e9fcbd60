//! Connections: accepts them and completes their TLS handshake before HTTP gets them.
//!
//! Each handshake is a task with a deadline and a place, so a slow or silent caller delays nobody. It uses the certificate
//! current at that time. In the insecure loopback mode it is the first byte.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::Stream;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::established::{Connection, Established, Transport, refuse};
use crate::settings::Service;
use crate::tls::Identity;
use crate::waiting::{FIRST_BYTE, Waiting};

const HANDSHAKE: Duration = Duration::from_secs(20);
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two lines of the log about refused connections.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// What a connection passes before it is served.
#[derive(Clone)]
pub(crate) struct Door {
    /// None in the insecure loopback mode.
    identity: Option<Identity>,
    waiting: Waiting,
    established: Established,
    refused: Refused,
    activity: Activity,
}

/// Counts refused connections, and reports them now and then.
#[derive(Clone)]
struct Refused {
    counter: Counter,
    reported: Arc<Mutex<Option<Instant>>>,
}

impl Door {
    pub(crate) fn new(service: &Service, refused: Counter, activity: Activity) -> Self {
        Self {
            identity: service.identity.clone(),
            waiting: Waiting::default(),
            established: Established::new(service.limits),
            refused: Refused {
                counter: refused,
                reported: Arc::default(),
            },
            activity,
        }
    }

    /// Returns a connection that may be served.
    async fn admit(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        let place = self.waiting.enter(address.ip());
        let greeted = tokio::select! {
            greeted = greet(stream, self.identity.as_ref()) => greeted,
            () = place.lost() => Err(io::Error::other("newer connections took its place")),
        };
        drop(place);
        let transport = match greeted {
            Ok(transport) => transport,
            Err(error) => {
                tracing::debug!(%address, %error, "a connection did not begin");
                return None;
            }
        };
        match self.established.enter(address.ip()) {
            Ok(share) => Some(Connection::new(transport, share, self.activity.clone())),
            Err(reason) => {
                self.refused.note(address, &reason);
                refuse(transport, &reason).await;
                None
            }
        }
    }
}

impl Refused {
    fn note(&self, address: SocketAddr, reason: &str) {
        self.counter.inc();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|last| last.elapsed() >= BETWEEN_LINES) {
            *reported = Some(Instant::now());
            let refused = self.counter.get();
            tracing::warn!(%address, reason, refused, "refused a connection");
        }
    }
}

/// Connections that may be served, until `closing`.
pub(crate) fn connections(
    listener: TcpListener,
    door: Door,
    closing: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some((stream, address)) = next(&listener, &closing).await {
            let (door, ready) = (door.clone(), ready.clone());
            tokio::spawn(async move {
                if let Some(connection) = door.admit(stream, address).await {
                    // The receiver is gone if the server has ended.
                    drop(ready.send(Ok(connection)).await);
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
async fn greet(stream: TcpStream, identity: Option<&Identity>) -> io::Result<Transport> {
    stream.set_nodelay(true)?;
    // A new socket may be reported as readable before it has data.
    if tokio::time::timeout(FIRST_BYTE, stream.peek(&mut [0])).await?? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Some(identity) = identity else {
        return Ok(Either::Right(stream));
    };
    let accept = TlsAcceptor::from(identity.server()).accept(stream);
    Ok(Either::Left(
        tokio::time::timeout(HANDSHAKE, accept).await??,
    ))
}
