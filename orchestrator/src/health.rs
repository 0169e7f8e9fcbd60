//! Health checks of services: `grpc.health.v1` over mTLS, or a TCP connection for services without gRPC.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use pspd_model::spec::{HealthCheck, Name, Spec};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::identity::Identity;
use crate::reach::Reach;

/// The time between two checks of a service that is not yet reachable.
const RETRY: Duration = Duration::from_millis(100);
/// The time limit of one check while waiting: a handshake in a busy emulated guest is slow.
const CHECK: Duration = Duration::from_secs(5);

/// The time from one check to the next of a service that is watched.
const WATCH: Duration = Duration::from_secs(1);

/// HTTP/2 in ALPN.
pub(crate) const HTTP2: &[u8] = b"h2";
const WITHOUT_HTTP2: &str = "speaks TLS without HTTP/2 on its port";

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Serving,
    NotServing,
    /// The service did not answer; the cause.
    Unreachable(String),
}

/// Checks once.
pub async fn check(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    limit: Duration,
) -> Health {
    let mut checker = Checker::new(reach, spec, domain, identity);
    checker.check(limit).await
}

/// Waits until the service is SERVING. The error is the last result.
pub async fn serving(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    deadline: Duration,
    cancel: &CancellationToken,
) -> Result<(), Health> {
    let mut checker = Checker::new(reach, spec, domain, identity);
    let end = Instant::now() + deadline;
    let mut last = Health::Unreachable("not checked yet".into());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        tokio::select! {
            health = checker.check(left.clamp(RETRY, CHECK)) => last = health,
            () = cancel.cancelled() => return Err(last),
        }
        if last == Health::Serving {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(last);
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            () = cancel.cancelled() => return Err(last),
        }
    }
}

/// Checks again and again until `cancel`; `report` gets when each check began, and its result.
pub async fn watch(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    limit: Duration,
    cancel: &CancellationToken,
    mut report: impl FnMut(Instant, Health),
) {
    let mut checker = Checker::new(reach, spec, domain, identity);
    loop {
        let began = Instant::now();
        tokio::select! {
            health = checker.check(limit) => report(began, health),
            () = cancel.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep_until(began + WATCH) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Waits until the service presents this certificate (DER) on a new connection. Returns whether it did so before the
/// deadline.
pub async fn shows(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    certificate: &[u8],
    deadline: Duration,
    cancel: &CancellationToken,
) -> bool {
    let wait = async {
        loop {
            match shown(reach, spec, domain, identity).await {
                Ok(shown) if shown == certificate => return,
                // If the service is down, its health check reports the cause.
                Ok(_) | Err(_) => sleep(RETRY).await,
            }
        }
    };
    tokio::select! {
        waited = timeout(deadline, wait) => waited.is_ok(),
        () = cancel.cancelled() => false,
    }
}

/// Returns the certificate (DER) that a service presents in a handshake.
async fn shown(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
) -> anyhow::Result<Vec<u8>> {
    let stream = handshake(reach, spec, domain, identity, &[]).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let shown = shown.and_then(|chain| chain.first());
    Ok(shown
        .context("the service presented no certificate")?
        .to_vec())
}

/// Says what a service's port speaks, if that is certainly not what its health check needs.
pub async fn other_protocol(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
) -> Option<&'static str> {
    let service = spec.get(domain)?.service.as_ref()?;
    if service.health == HealthCheck::Tcp {
        return None;
    }
    match handshake(reach, spec, domain, identity, &[HTTP2]).await {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => None,
        Ok(_) => Some(WITHOUT_HTTP2),
        Err(error) => {
            let error = error.downcast::<io::Error>().ok()?;
            match error.get_ref()?.downcast_ref::<rustls::Error>()? {
                rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                    Some(WITHOUT_HTTP2)
                }
                rustls::Error::InvalidMessage(_) => Some("answers without TLS on its port"),
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    Some("has a certificate on its port that is not the deployment's")
                }
                _ => None,
            }
        }
    }
}

async fn handshake(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    protocols: &[&[u8]],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let domain_spec = spec.get(domain).context("there is no such domain")?;
    let service = domain_spec.service.as_ref();
    let port = service.context("the domain has no service")?.port;
    let to = SocketAddr::from((domain_spec.address, port));
    let config = client_config(identity, protocols)?;
    let name = ServerName::try_from(spec.host_name(domain))?;
    let stream = reach.dial(to, CHECK).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(timeout(CHECK, connector.connect(name, stream)).await??)
}

/// Mutual TLS as pspd itself, with these protocols in ALPN.
pub(crate) fn client_config(
    identity: &Identity,
    protocols: &[&[u8]],
) -> anyhow::Result<ClientConfig> {
    let client = identity.client();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(client.ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(client.certificate.as_bytes());
    let chain = chain.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    Ok(config)
}

/// Reuses its connection between checks: in an emulated guest, a handshake is slower than an answer.
struct Checker<'a> {
    reach: &'a Reach,
    spec: &'a Spec,
    domain: &'a Name,
    identity: &'a Identity,
    channel: Option<Channel>,
}

impl<'a> Checker<'a> {
    fn new(
        reach: &'a Reach,
        spec: &'a Spec,
        domain: &'a Name,
        identity: &'a Identity,
    ) -> Checker<'a> {
        Checker {
            reach,
            spec,
            domain,
            identity,
            channel: None,
        }
    }

    async fn check(&mut self, limit: Duration) -> Health {
        let answer = match timeout(limit, self.try_check(limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        };
        answer.unwrap_or_else(|cause| {
            self.channel = None;
            Health::Unreachable(explained(cause))
        })
    }

    async fn try_check(&mut self, limit: Duration) -> Result<Health, String> {
        let domain = self.spec.get(self.domain);
        let domain = domain.ok_or("there is no such domain")?;
        let Some(service) = &domain.service else {
            return Err("the domain has no service".into());
        };
        let to = SocketAddr::from((domain.address, service.port));
        let HealthCheck::Grpc(name) = &service.health else {
            let connected = self.reach.dial(to, limit).await;
            return connected
                .map(|_| Health::Serving)
                .map_err(|error| error.to_string());
        };
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => {
                let host_name = self.spec.host_name(self.domain);
                let channel = connect(self.reach, &host_name, to, self.identity, limit).await?;
                self.channel.insert(channel).clone()
            }
        };
        let request = HealthCheckRequest {
            service: name.clone(),
        };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) if answer.get_ref().status == ServingStatus::Serving as i32 => {
                Ok(Health::Serving)
            }
            Ok(_) => Ok(Health::NotServing),
            Err(status) if status.code() == Code::NotFound => {
                Err(format!("unknown health service `{name}`"))
            }
            Err(status) => Err(with_sources(&status)),
        }
    }
}

async fn connect(
    reach: &Reach,
    host_name: &str,
    to: SocketAddr,
    identity: &Identity,
    limit: Duration,
) -> Result<Channel, String> {
    let client = identity.client();
    let tls = ClientTlsConfig::new()
        .domain_name(host_name)
        .ca_certificate(Certificate::from_pem(&client.ca))
        .identity(TlsIdentity::from_pem(&client.certificate, &client.key));
    let endpoint = Endpoint::from_shared(format!("https://{to}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| with_sources(&error))?;
    let reach = reach.clone();
    let connector = service_fn(move |_| {
        let reach = reach.clone();
        async move { reach.dial(to, limit).await.map(TokioIo::new) }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| with_sources(&error))
}

/// What the cause begins with where a guest does not accept a certificate for its time.
pub const WRONG_CLOCK: &str = "the guest's clock is wrong, so the guest rejects pspd's certificate";

/// Names what a cause means where its text does not say it. pspd renews its own certificate long before it expires.
fn explained(cause: String) -> String {
    if cause.contains("received fatal alert: CertificateExpired") {
        return format!("{WRONG_CLOCK}. Run `pspd up` to set the clock");
    }
    cause
}

/// Formats an error with its sources in one line: tonic's own message hides the cause.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
