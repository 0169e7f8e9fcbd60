//! The three services of one test, each in its own runtime, so that one can be killed like a process: all its tasks end
//! at once and its connections break.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use database_server::{Indexes, Location, Store};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use serving::testing::Authority;
use serving::{CancellationToken, Dependency};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use web_server::{Hosts, Proxies, Token};

pub(crate) const DATABASE: &str = "database-server";
pub(crate) const AI: &str = "ai-server";
pub(crate) const WEB: &str = "web-server";

pub(crate) struct System {
    authority: Authority,
    store: PathBuf,
    token: Option<Token>,
    proxies: Proxies,
    pub http: SocketAddr,
    addresses: HashMap<&'static str, SocketAddr>,
    running: HashMap<&'static str, Running>,
}

struct Running {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl System {
    pub(crate) async fn start(store: &Path) -> Self {
        Self::start_with(store, None).await
    }

    pub(crate) async fn start_with(store: &Path, token: Option<Token>) -> Self {
        let mut system = Self::nothing(store, token);
        for name in [DATABASE, AI, WEB] {
            system.start_service(name).await;
        }
        system
    }

    pub(crate) async fn start_behind(store: &Path, proxies: Proxies) -> Self {
        let mut system = Self {
            proxies,
            ..Self::nothing(store, None)
        };
        for name in [DATABASE, AI, WEB] {
            system.start_service(name).await;
        }
        system
    }

    /// Database and web server, and any service of the authority at `ai`.
    pub(crate) async fn start_before(store: &Path, authority: Authority, ai: SocketAddr) -> Self {
        let mut system = Self {
            authority,
            ..Self::nothing(store, None)
        };
        system.addresses.insert(AI, ai);
        for name in [DATABASE, WEB] {
            system.start_service(name).await;
        }
        system
    }

    fn nothing(store: &Path, token: Option<Token>) -> Self {
        Self {
            authority: Authority::default(),
            store: store.to_owned(),
            token,
            proxies: Proxies::default(),
            http: (Ipv4Addr::LOCALHOST, 0).into(),
            addresses: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Starts a service on a free port, or on its earlier port.
    pub(crate) async fn start_service(&mut self, name: &'static str) {
        let (mut service, mut listener) = self.authority.service(name).await;
        if let Some(address) = self.addresses.get(name) {
            service.listen = *address;
            listener = TcpListener::bind(address).await.unwrap();
        }
        self.addresses.insert(name, service.listen);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let runtime = Runtime::new().unwrap();
        let task = match name {
            DATABASE => {
                let location = Location::File(self.store.clone());
                let opened = async move { Store::open(&location, Indexes::default()).await };
                // Opened first: a caller that connects after this function returns has a short handshake timeout.
                let store = runtime.spawn(opened).await.unwrap().unwrap();
                runtime.spawn(async move {
                    database_server::serve(listener, &service, store, stop).await
                })
            }
            AI => {
                let database = self.dependency(DATABASE);
                let config = ai_server::Config {
                    service,
                    database,
                    idle: ai_server::IDLE,
                };
                runtime.spawn(async move { ai_server::serve(listener, &config, stop).await })
            }
            _ => {
                let edge = TcpListener::bind(self.http).await.unwrap();
                self.http = edge.local_addr().unwrap();
                let config = web_server::Config {
                    service,
                    http: self.http,
                    database: self.dependency(DATABASE),
                    ai: self.dependency(AI),
                    token: self.token.clone(),
                    hosts: Hosts::default(),
                    proxies: self.proxies.clone(),
                };
                runtime.spawn(async move { web_server::serve(listener, edge, &config, stop).await })
            }
        };
        let running = Running {
            runtime: Some(runtime),
            shutdown,
            task,
        };
        self.running.insert(name, running);
    }

    /// Ends a service immediately, like a crash.
    pub(crate) fn kill(&mut self, name: &str) {
        self.running.remove(name).unwrap();
    }

    /// Drains and ends all services.
    pub(crate) async fn stop(mut self) {
        for running in self.running.values() {
            running.shutdown.cancel();
        }
        for running in self.running.values_mut() {
            (&mut running.task).await.unwrap().unwrap();
        }
    }

    /// How to call a service of this system.
    pub(crate) fn dependency(&self, name: &str) -> Dependency {
        self.authority.dependency(name, self.addresses[name])
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        self.addresses[name].port()
    }

    /// Sends a request over HTTP.
    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, body.to_vec())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let (status, answer) = self.called(method, path, kind, body).await;
        (status, serde_json::from_str(&answer).unwrap_or(Value::Null))
    }

    async fn called(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: String,
    ) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(self.url(&format!("/api/v1{path}")))
            .header(header::CONTENT_TYPE, kind)
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
            .body(Body::from(body))
            .unwrap();
        let (status, _, bytes) = self.send(request).await;
        (status, String::from_utf8(bytes).unwrap())
    }

    /// Sends and returns JSON as its text.
    pub(crate) async fn text(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> (StatusCode, String) {
        self.called(method, path, "application/json", body).await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(method, path, "application/json", body).await
    }
}

/// A file of real labelled texts.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}
