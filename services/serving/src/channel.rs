//! Channels to other services: mutual TLS, lazy connection, keepalive, propagation of the trace.
//!
//! A channel that reconnects presents the certificate current at that time. A call whose connection is lost before its answer
//! is UNAVAILABLE, like a call that finds no server; the server may have acted on it.
//!
//! Deadlines belong to the calls ([`deadline`]); retries belong to the callers, which know what is idempotent
//! ([`retry`]).

use std::error::Error;
use std::future::Future;
use std::io;
use std::iter;
use std::time::Duration;

use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{self, Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tower::util::{MapErr, ServiceExt as _};

use crate::tls::Identity;
use crate::trace;
use crate::windows;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HTTPS: u16 = 443;
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A channel whose calls carry the current trace.
pub type Link = InterceptedService<MapErr<Channel, Described>, Propagate>;

type Described = fn(transport::Error) -> Status;

/// Another service that this one calls.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The first label of the URL's host, or another name if that is an address: see [`Dependency::or_named`].
    pub name: String,
    endpoint: Endpoint,
    /// Where to connect, and with which identity; plain text without one.
    tls: Option<Peer>,
}

#[derive(Debug, Clone)]
struct Peer {
    identity: Identity,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Peer {
    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.identity.client());
        Ok(TokioIo::new(connector.connect(self.name, stream).await?))
    }
}

impl Dependency {
    /// Checks a URL and prepares the channel; the error says what is wrong with the URL.
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
        let tls = match identity {
            None => None,
            Some(identity) => {
                let bare = host.trim_matches(['[', ']']).to_owned();
                let Ok(name) = ServerName::try_from(bare.clone()) else {
                    return fault("its host is neither a DNS name nor an address");
                };
                let port = uri.port_u16().unwrap_or(HTTPS);
                let host = bare;
                Some(Peer {
                    identity,
                    host,
                    port,
                    name,
                })
            }
        };
        // The endpoint's own TLS would keep the first certificate, so [`Peer`] does TLS.
        let endpoint = Endpoint::from(plain(&uri))
            .origin(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_connection_window_size(windows::CONNECTION)
            .initial_stream_window_size(windows::STREAM)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok(Self {
            name: label(&host),
            endpoint,
            tls,
        })
    }

    /// The same by this name, if the URL's host names no service: an address, or `localhost`.
    pub fn or_named(mut self, name: &str) -> Self {
        let host = self.name.trim_matches(['[', ']']);
        if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok() {
            name.clone_into(&mut self.name);
        }
        self
    }

    /// The same for a collector of traces, which may be called in plain text at any address.
    pub fn collector(url: &str, identity: Option<Identity>) -> Result<Self, String> {
        match url.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => Ok(Self {
                name: label(uri.host().unwrap_or_default()),
                endpoint: Endpoint::from(uri).connect_timeout(CONNECT_TIMEOUT),
                tls: None,
            }),
            _ => Self::new(url, identity, false),
        }
    }

    /// Opens the channel; it connects with the first call, and reconnects whenever the connection is lost.
    pub fn connect(&self) -> Link {
        let channel = match self.tls.clone() {
            None => self.endpoint.connect_lazy(),
            Some(peer) => self
                .endpoint
                .connect_with_connector_lazy(tower::service_fn(move |_| peer.clone().connect())),
        };
        InterceptedService::new(channel.map_err(described as Described), Propagate)
    }
}

/// Returns UNAVAILABLE for a call whose connection was lost. hyper cancels calls that it did not send, which would be CANCELLED;
/// those that it sent would be UNKNOWN.
fn described(error: transport::Error) -> Status {
    let causes = iter::successors(Some(&error as &(dyn Error + 'static)), |&error| {
        error.source()
    });
    let mut causes = causes.filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    let broke = |call: &hyper::Error| call.source().is_some_and(|cause| cause.is::<io::Error>());
    match causes.find(|call| call.is_canceled() || broke(call)) {
        Some(_) => Status::unavailable("the connection was lost"),
        None => Status::from_error(error.into()),
    }
}

/// The same URL with the scheme `http`.
fn plain(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
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

/// Adds `traceparent`, and `tracestate` where there is one, to every call.
#[derive(Debug, Clone, Copy)]
pub struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let context = trace::current();
        let mut add = |key, value: &str| {
            if let Ok(value) = MetadataValue::try_from(value) {
                request.metadata_mut().insert(key, value);
            }
        };
        add(trace::TRACEPARENT, &context.traceparent());
        if let Some(state) = &context.state {
            add(trace::TRACESTATE, state);
        }
        Ok(request)
    }
}

/// Makes a request with a deadline that is also sent to the server.
pub fn deadline<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Repeats an idempotent call while it returns UNAVAILABLE, with growing pauses, a few times at most.
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, Shutdown, TcpListener};
    use std::thread;

    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;

    const NO_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// Whether the server acted on it is not known.
    #[tokio::test]
    async fn a_call_whose_connection_is_lost_before_its_answer_is_unavailable() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut health = HealthClient::new(Dependency::new(&url, None, true).unwrap().connect());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&NO_SETTINGS).unwrap();
            // Until nothing more comes, the call is waiting for its answer.
            let quiet = Duration::from_millis(200);
            stream.set_read_timeout(Some(quiet)).unwrap();
            while stream.read(&mut [0; 256]).is_ok_and(|count| count > 0) {}
        });
        let request = deadline(HealthCheckRequest::default(), Duration::from_secs(5));
        let status = health.check(request).await.unwrap_err();
        server.join().unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }

    /// The connection was closed a moment ago, and the client has not noticed yet.
    #[tokio::test]
    async fn a_call_whose_connection_is_lost_before_sending_is_unavailable() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut health = HealthClient::new(Dependency::new(&url, None, true).unwrap().connect());
        let mut call = async |limit| {
            let request = deadline(HealthCheckRequest::default(), limit);
            health.check(request).await.unwrap_err()
        };
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&NO_SETTINGS).unwrap();
            let _ = stream.read(&mut [0; 256]).unwrap();
            stream
        });
        call(Duration::from_millis(100)).await;
        server.join().unwrap().shutdown(Shutdown::Both).unwrap();
        // Nothing else runs meanwhile, so the call and the end of the connection arrive together.
        thread::sleep(Duration::from_millis(10));
        let status = call(Duration::from_secs(5)).await;
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
}
