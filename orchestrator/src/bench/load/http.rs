//! HTTP/1.1 requests without TLS: one at a time on each connection. An answer's body is read and not kept.

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

use super::call::{Failure, Status};
use super::payload::Line;
use crate::hint::told;
use crate::reflection::Target;

/// Connections for the requests of one path.
pub struct Client {
    target: Target,
    path: Line,
    /// Bodies, which are sent by POST; without any, requests are GET.
    bodies: Vec<Line>,
    connections: usize,
    idle: Mutex<Vec<Sender>>,
}

type Sender = SendRequest<Full<Bytes>>;

impl Client {
    /// Opens the connections.
    pub(super) async fn open(
        target: &Target,
        path: Line,
        bodies: Vec<Line>,
        connections: usize,
    ) -> anyhow::Result<Client> {
        let client = Client {
            target: target.clone(),
            path,
            bodies,
            connections,
            idle: Mutex::default(),
        };
        client
            .request(0)
            .context("the path is not valid in an HTTP request")?;
        for _ in 0..connections {
            let sender = client.connect().await;
            let sender = sender.with_context(|| target.unreachable())?;
            client.keep(sender);
        }
        Ok(client)
    }

    pub(super) fn room(&self) -> usize {
        self.connections
    }

    pub(super) async fn call(&self, number: u64) -> Result<(), Failure> {
        let request = self.request(number);
        let request = request.map_err(|error| Failure::new(Status::Payload, error))?;
        let mut sender = self.idle_or_open().await?;
        let lost = |error: hyper::Error| Failure::new(Status::Lost, error);
        let answer = sender.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(lost)?;
        }
        self.keep(sender);
        if status.is_client_error() || status.is_server_error() {
            return Err(Failure::new(Status::Http(status.as_u16()), status));
        }
        Ok(())
    }

    fn request(&self, number: u64) -> Result<Request<Full<Bytes>>, http::Error> {
        let (method, body) = match self.bodies.len() {
            0 => (Method::GET, String::new()),
            count => (
                Method::POST,
                self.bodies[number as usize % count].fill(number),
            ),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(self.path.fill(number))
            .header(header::HOST, self.target.authority())
            .header(
                header::USER_AGENT,
                concat!("pspd/", env!("CARGO_PKG_VERSION")),
            );
        if !self.bodies.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::from(body))
    }

    async fn idle_or_open(&self) -> Result<Sender, Failure> {
        loop {
            let idle = self.lock().pop();
            match idle {
                None => {
                    let address = self.target.address();
                    return self.connect().await.map_err(|error| {
                        let cause = format!("failed to connect to {address}: {}", told(&error));
                        Failure::new(Status::NotConnected, cause)
                    });
                }
                // The target may have closed it while it was idle.
                Some(mut sender) => {
                    if sender.ready().await.is_ok() {
                        return Ok(sender);
                    }
                }
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let stream = self.target.connect().await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // A connection that breaks fails its call, too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn keep(&self, sender: Sender) {
        self.lock().push(sender);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
