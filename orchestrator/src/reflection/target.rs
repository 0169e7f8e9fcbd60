//! Where calls go: one port of one guest, with mutual TLS or without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use pspd_model::spec::{HealthCheck, Name, Spec};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::health;
use crate::identity::Identity;
use crate::reach::Reach;

/// The time limit for opening a connection: a handshake in a busy emulated guest is slow.
const CONNECT: Duration = Duration::from_secs(20);

/// A connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A port, and how to connect to it.
#[derive(Clone)]
pub struct Target {
    reach: Reach,
    address: SocketAddr,
    /// The host and the port, as a request names them.
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// A port without TLS.
    pub fn plain(reach: Reach, address: SocketAddr) -> Target {
        Target {
            reach,
            address,
            authority: address.to_string(),
            tls: None,
        }
    }

    /// The gRPC port of a domain's service, with mutual TLS as pspd itself.
    pub fn service(
        reach: Reach,
        spec: &Spec,
        domain: &Name,
        identity: &Identity,
    ) -> anyhow::Result<Target> {
        let service = spec.domains[domain].service.as_ref();
        let service = service.with_context(|| format!("domain `{domain}` has no service"))?;
        anyhow::ensure!(
            service.health != HealthCheck::Tcp,
            "the service of `{domain}` has `health: tcp`, so it is not a gRPC service. `pspd bench load --http PATH` measures one that speaks HTTP"
        );
        let host = spec.host_name(domain);
        let config = health::client_config(identity, &[health::HTTP2])?;
        let name = ServerName::try_from(host.clone())?;
        Ok(Target {
            reach,
            address: SocketAddr::from((spec.domains[domain].address, service.port)),
            authority: format!("{host}:{}", service.port),
            tls: Some((TlsConnector::from(Arc::new(config)), name)),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to say where no connection can be opened.
    pub fn unreachable(&self) -> String {
        let address = self.address;
        format!("failed to connect to {address}. `pspd status` shows whether its service runs")
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A connection for calls by `tonic`.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        let target = self.clone();
        let connector = service_fn(move |_| {
            let target = target.clone();
            // The connection is encrypted already, if it is to be.
            async move { target.connect().await.map(TokioIo::new) }
        });
        let origin = format!("{}://{}", self.scheme(), self.authority());
        let endpoint = Endpoint::from_static("http://target").origin(origin.parse()?);
        let channel = endpoint.connect_with_connector(connector).await;
        channel.with_context(|| self.unreachable())
    }

    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let opened = timeout(CONNECT, async {
            let stream = self.reach.dial(self.address, CONNECT).await?;
            Ok::<Box<dyn Stream>, io::Error>(match &self.tls {
                None => Box::new(stream),
                Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
            })
        });
        opened.await.map_err(|_| {
            let limit = CONNECT.as_secs();
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {limit} s"),
            )
        })?
    }
}
