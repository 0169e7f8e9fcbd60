//! Asks services how they are, by `grpc.health.v1` over mTLS.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::identity::Identity;
use crate::reach::Reach;
use crate::spec::{Name, Spec};

/// Between two questions to a service that is not there yet.
const RETRY: Duration = Duration::from_millis(100);
/// For one question of a wait: a handshake in an emulated guest that is busy takes its time.
const QUESTION: Duration = Duration::from_secs(5);

/// What one health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Serving,
    NotServing,
    /// No answer, with the cause.
    Unreachable(String),
}

/// Asks once.
pub async fn check(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    limit: Duration,
) -> Health {
    match timeout(limit, ask(reach, spec, domain, identity, limit)).await {
        Ok(Ok(health)) => health,
        Ok(Err(cause)) => Health::Unreachable(cause),
        Err(_) => Health::Unreachable(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Waits until the service is SERVING; the error is what was seen last.
pub async fn serving(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    deadline: Duration,
    cancel: &CancellationToken,
) -> Result<(), Health> {
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let health = check(reach, spec, domain, identity, left.clamp(RETRY, QUESTION)).await;
        if health == Health::Serving {
            return Ok(());
        }
        if Instant::now() >= end || cancel.is_cancelled() {
            return Err(health);
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            () = cancel.cancelled() => {}
        }
    }
}

async fn ask(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    limit: Duration,
) -> Result<Health, String> {
    let domain = &spec.domains[domain];
    let Some(service) = &domain.service else {
        return Err("it has no service".into());
    };
    let to = SocketAddr::from((domain.address, service.port));
    let channel = connect(reach, &spec.host_name(&domain.name), to, identity, limit).await?;
    let request = HealthCheckRequest {
        service: service.health.clone(),
    };
    match HealthClient::new(channel).check(request).await {
        Ok(answer) if answer.get_ref().status == ServingStatus::Serving as i32 => {
            Ok(Health::Serving)
        }
        Ok(_) => Ok(Health::NotServing),
        Err(status) if status.code() == Code::NotFound => Err(format!(
            "it does not know the health service `{}`",
            service.health
        )),
        Err(status) => Err(with_sources(&status)),
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

/// An error's chain in one line: tonic's own words hide the cause.
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
