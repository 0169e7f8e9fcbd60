//! Channels to other services: mutual TLS, lazy connection, keepalive, the trace passed on.
//!
//! Deadlines belong to the calls ([`deadline`]); retries belong to the callers, who know what is idempotent
//! ([`retry`]).

use std::future::Future;
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use crate::tls::Identity;
use crate::trace;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A channel whose calls carry the current trace.
pub type Link = InterceptedService<Channel, Propagate>;

/// Another service that this one calls.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The first label of the URL's host.
    pub name: String,
    endpoint: Endpoint,
}

impl Dependency {
    /// Checks a URL and prepares the channel; says what is wrong with the URL otherwise.
    pub fn new(url: &str, identity: Option<Identity>, insecure: bool) -> Result<Self, String> {
        let fault = |fault: &str| Err(format!("is `{url}`: {fault}"));
        let Ok(uri) = url.parse::<Uri>() else {
            return fault("it is not a URL");
        };
        let scheme = if insecure { "http" } else { "https" };
        if uri.scheme_str() != Some(scheme) {
            return fault(&format!("its scheme must be `{scheme}`"));
        }
        let Some(host) = uri.host().map(str::to_owned) else {
            return fault("it has no host");
        };
        if insecure && !loopback(&host) {
            return fault(
                "its host must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1",
            );
        }
        let mut endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if let Some(identity) = identity {
            endpoint = match endpoint.tls_config(identity.client()) {
                Ok(endpoint) => endpoint,
                Err(error) => return fault(&format!("TLS can't be set up for it: {error}")),
            };
        }
        Ok(Self {
            name: label(&host),
            endpoint,
        })
    }

    /// Opens the channel; it connects with the first call, and again whenever the connection is lost.
    pub fn connect(&self) -> Link {
        InterceptedService::new(self.endpoint.connect_lazy(), Propagate)
    }
}

fn loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn label(host: &str) -> String {
    match host.parse::<std::net::IpAddr>() {
        Ok(_) => host.to_owned(),
        Err(_) => host.split('.').next().unwrap_or(host).to_owned(),
    }
}

/// Adds `traceparent` to every call.
#[derive(Debug, Clone, Copy)]
pub struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = trace::current().child().traceparent();
        if let Ok(value) = MetadataValue::try_from(header) {
            request.metadata_mut().insert("traceparent", value);
        }
        Ok(request)
    }
}

/// Makes a request whose deadline the server is told too.
pub fn deadline<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Repeats an idempotent call while it answers UNAVAILABLE, with growing pauses, a few times at most.
pub async fn retry<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => tokio::time::sleep(pause).await,
            outcome => return outcome,
        }
        pause *= 2;
    }
    call().await
}
