//! Connections that are opened again after they ended, and one gRPC call on them: HTTP/2 by `h2` itself.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request};

use super::call::{Failure, Status};
use crate::hint::told;
use crate::reflection::Target;

/// Large enough that no target waits for it.
const WINDOW: u32 = 1 << 24;
/// The number of calls in flight on a connection; a server may allow fewer, and further ones wait.
const STREAMS: usize = 256;
/// After a failed try to connect, calls fail for so long without another try.
const RETRY: Duration = Duration::from_millis(100);

/// What becomes of an answer's messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Kept,
    Dropped,
}

/// Connections that calls take in turn.
pub(super) struct Connections(Vec<Connection>);

impl Connections {
    /// Opens them.
    pub(super) async fn open(target: &Target, count: usize) -> anyhow::Result<Connections> {
        let connections = Connections((0..count).map(|_| Connection::new(target)).collect());
        for connection in &connections.0 {
            let opened = connection.sender().await;
            opened.map_err(|failure| anyhow::anyhow!(failure.message))?;
        }
        Ok(connections)
    }

    /// Lets the next calls open other connections: those that exist belong to a runtime that ended.
    pub(super) fn renew(&self) {
        for connection in &self.0 {
            connection.state().sender = None;
        }
    }

    pub(super) fn room(&self) -> usize {
        self.0.len() * STREAMS
    }

    /// Sends a message with its prefix, and waits for the status. Returns the messages of the answer with their prefixes, if
    /// they are kept.
    pub(super) async fn call(
        &self,
        number: u64,
        request: &Request<()>,
        message: Bytes,
        answer: Answer,
    ) -> Result<Bytes, Failure> {
        let connection = &self.0[number as usize % self.0.len()];
        let (opening, sender) = connection.sender().await?;
        let mut unanswered = Unanswered {
            connection,
            opening: Some(opening),
        };
        let ended = send(sender, request, message, answer).await;
        unanswered.opening = None;
        ended.unwrap_or_else(|error| {
            // A reset ends one call; everything else is the end of the connection.
            if !error.is_reset() {
                connection.close(opening);
            }
            Err(Failure::new(Status::Lost, error))
        })
    }
}

/// A call that is dropped without an answer: its machine may be gone, so the next call opens another connection. Others
/// that are under way on this one still wait for their answers.
struct Unanswered<'a> {
    connection: &'a Connection,
    opening: Option<u64>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(opening) = self.opening {
            self.connection.close(opening);
        }
    }
}

async fn send(
    sender: SendRequest<Bytes>,
    request: &Request<()>,
    message: Bytes,
    answer: Answer,
) -> Result<Result<Bytes, Failure>, h2::Error> {
    let mut sender = sender.ready().await?;
    let (answered, mut sending) = sender.send_request(request.clone(), false)?;
    sending.send_data(message, true)?;
    let (head, mut body) = answered.await?.into_parts();
    if head.status != http::StatusCode::OK {
        let status = head.status.as_u16();
        return Ok(Err(Failure::new(Status::Http(status), head.status)));
    }
    if body.is_end_stream() {
        return Ok(ended(&head.headers).map(|()| Bytes::new()));
    }
    let mut messages = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        if answer == Answer::Kept {
            messages.extend_from_slice(&chunk);
        }
    }
    let trailers = body.trailers().await?;
    Ok(ended(&trailers.unwrap_or_default()).map(|()| messages.freeze()))
}

fn ended(trailers: &HeaderMap) -> Result<(), Failure> {
    if trailers.get("grpc-status").is_some_and(|code| code == "0") {
        return Ok(());
    }
    match tonic::Status::from_header_map(trailers) {
        Some(status) => {
            let code = status.code() as i32;
            Err(Failure::new(Status::Grpc(code), status.message()))
        }
        None => Err(Failure::new(Status::Lost, "an answer without a status")),
    }
}

/// One connection, which is opened again by the next call after it ended.
struct Connection {
    target: Target,
    state: Mutex<State>,
    /// One try at a time.
    opening: tokio::sync::Mutex<()>,
}

struct State {
    /// How often it was opened.
    opened: u64,
    sender: Option<SendRequest<Bytes>>,
    /// The last try to open it, if that failed.
    failed: Option<(Instant, Failure)>,
}

impl Connection {
    fn new(target: &Target) -> Connection {
        Connection {
            target: target.clone(),
            state: Mutex::new(State {
                opened: 0,
                sender: None,
                failed: None,
            }),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known without a try to open it.
    fn known(&self) -> Option<Result<(u64, SendRequest<Bytes>), Failure>> {
        let state = self.state();
        if let Some(sender) = &state.sender {
            return Some(Ok((state.opened, sender.clone())));
        }
        let (at, failure) = state.failed.as_ref()?;
        (at.elapsed() < RETRY).then(|| Err(failure.clone()))
    }

    async fn sender(&self) -> Result<(u64, SendRequest<Bytes>), Failure> {
        if let Some(known) = self.known() {
            return known;
        }
        let _one = self.opening.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let opened = self.open().await;
        let mut state = self.state();
        match opened {
            Ok(sender) => {
                state.opened += 1;
                state.sender = Some(sender.clone());
                Ok((state.opened, sender))
            }
            Err(error) => {
                let cause = format!(
                    "failed to connect to {}: {}",
                    self.target.address(),
                    told(&error)
                );
                let failure = Failure::new(Status::NotConnected, cause);
                state.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn open(&self) -> anyhow::Result<SendRequest<Bytes>> {
        let stream = self.target.connect().await?;
        let (sender, connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(stream)
            .await?;
        // A connection that breaks fails its calls, too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Forgets the connection of that opening.
    fn close(&self, opened: u64) {
        let mut state = self.state();
        if state.opened == opened {
            state.sender = None;
        }
    }
}
