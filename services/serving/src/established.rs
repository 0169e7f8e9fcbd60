//! Connections after their handshake: bounded, for each source address and for all.
//!
//! One that is over a limit is refused by HTTP/2's GOAWAY with ENHANCE_YOUR_CALM, so that its caller gets the reason. Those
//! that exist are left alone.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::activity::Activity;
use crate::waiting::source;

/// The longest time that a refused caller has to read why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// On every service's certificate, so it identifies no caller.
const LOCALHOST: &str = "localhost";

/// The most connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub all: usize,
    pub of_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            all: 4096,
            of_source: 1024,
        }
    }
}

/// The connections of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Established {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// The share of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    established: Established,
    source: IpAddr,
}

impl Established {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            counts: Arc::default(),
        }
    }

    /// Counts a connection from `address`, or returns the limit that it is over.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Share, String> {
        let Limits { all, of_source } = self.limits;
        let source = source(address);
        let mut counts = self.counts();
        if counts.all >= all {
            return Err(format!("{all} connections are open"));
        }
        let own = counts.by_source.entry(source).or_default();
        if *own >= of_source {
            return Err(format!("{of_source} connections of {source} are open"));
        }
        *own += 1;
        counts.all += 1;
        Ok(Share {
            established: self.clone(),
            source,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.established.counts();
        counts.all -= 1;
        if let Some(own) = counts.by_source.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

/// Bytes of a connection, with TLS or without.
pub(crate) type Transport = Either<TlsStream<TcpStream>, TcpStream>;

/// Writes why a connection is refused. What the caller sends meanwhile is read, because TCP would discard the reason
/// otherwise.
pub(crate) async fn refuse(mut transport: Transport, reason: &str) {
    // If the caller does not wait for the reason, it needs none.
    let _gone = tokio::time::timeout(LAST_WORDS, async {
        transport.write_all(&goaway(reason)).await?;
        transport.shutdown().await?;
        let mut rest = [0; 1024];
        while transport.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// SETTINGS, as each connection begins, and GOAWAY: RFC 9113, sections 6.5 and 6.8.
fn goaway(reason: &str) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 6] = [7, 0, 0, 0, 0, 0];
    const LAST_STREAM: [u8; 4] = [0; 4];
    const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 0x0b];
    // No reason is longer than 255 bytes less these two.
    let length = [0, 0, (8 + reason.len()) as u8];
    [
        &SETTINGS[..],
        &length,
        &GOAWAY,
        &LAST_STREAM,
        &ENHANCE_YOUR_CALM,
        reason.as_bytes(),
    ]
    .concat()
}

pin_project! {
    /// A connection that is served.
    pub(crate) struct Connection {
        #[pin]
        transport: Transport,
        peer: Peer,
        activity: Activity,
        _share: Share,
    }
}

/// Who is at the other end of a connection: part of each of its requests.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The name on its certificate.
    pub(crate) name: Option<Arc<str>>,
}

impl Connection {
    pub(crate) fn new(transport: Transport, share: Share, activity: Activity) -> Self {
        let certificates = match &transport {
            Either::Left(tls) => tls.get_ref().1.peer_certificates(),
            Either::Right(_) => None,
        };
        let certificate = certificates.and_then(|chain| chain.first());
        let name = certificate.and_then(name).map(Into::into);
        Self {
            transport,
            peer: Peer { name },
            activity,
            _share: share,
        }
    }
}

/// The only DNS name of a certificate that is a single label.
fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut labels = certificate
        .valid_dns_names()
        .filter(|name| !name.contains('.') && *name != LOCALHOST);
    labels.next().map(str::to_owned)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().transport.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = ready!(this.transport.poll_write(context, buffer));
        this.activity.wrote(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().transport.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().transport.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = ready!(this.transport.poll_write_vectored(context, buffers));
        this.activity.wrote(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_source_and_in_all() {
        let established = Established::new(Limits {
            all: 3,
            of_source: 2,
        });
        let from = |text: &str| established.enter(text.parse().unwrap());
        let first = from("2001:db8::1").unwrap();
        let second = from("2001:db8::2").unwrap();
        assert_eq!(
            from("2001:db8::3").unwrap_err(),
            "2 connections of 2001:db8:: are open"
        );
        let other = from("192.0.2.1").unwrap();
        assert_eq!(from("192.0.2.2").unwrap_err(), "3 connections are open");
        drop(first);
        let again = from("2001:db8::3").unwrap();
        drop((second, other, again));
        let counts = established.counts();
        assert_eq!((counts.all, counts.by_source.len()), (0, 0));
    }
}
