//! gRPC calls at low cost: HTTP/2 by `h2` itself, and messages that are encoded before the clock starts where they are
//! the same in each call. An answer's message is read and not decoded; its status counts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request, Version};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::call::{Failure, Status};
use super::payload::Line;
use super::reflection;
use super::target::Target;

/// Large enough that no target waits for it.
const WINDOW: u32 = 1 << 24;
/// The number of calls in flight on a connection; a server may allow fewer, and further ones wait.
const STREAMS: usize = 256;
/// After a failed try to connect, calls fail for so long without another try.
const RETRY: Duration = Duration::from_millis(100);

/// Connections for one method of one service.
pub struct Client {
    connections: Vec<Connection>,
    request: Request<()>,
    messages: Vec<Message>,
}

enum Message {
    /// With its prefix.
    Encoded(Bytes),
    Filled(Line, MessageDescriptor),
}

impl Client {
    /// Finds the method by reflection, encodes the payload and opens the connections.
    pub(super) async fn open(
        target: &Target,
        method: &str,
        lines: &[Line],
        connections: usize,
    ) -> anyhow::Result<Client> {
        let method = reflection::method(target, method).await?;
        ensure!(
            !method.is_client_streaming(),
            "`{}` takes a stream of messages; load sends one message in each call",
            method.full_name()
        );
        let input = method.input();
        let messages = lines.iter().map(|line| {
            let encoded = encode(&input, &line.fill(0)).with_context(|| {
                let (place, name) = (line.place(), input.full_name());
                format!("{place}: not a message of type `{name}`")
            })?;
            Ok(match line.is_fixed() {
                true => Message::Encoded(encoded),
                false => Message::Filled(line.clone(), input.clone()),
            })
        });
        let messages = messages.collect::<anyhow::Result<_>>()?;
        let service = method.parent_service().full_name().to_owned();
        let (scheme, authority) = (target.scheme(), target.authority());
        let request = Request::post(format!(
            "{scheme}://{authority}/{service}/{}",
            method.name()
        ))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("pspd/", env!("CARGO_PKG_VERSION")))
        .body(())?;
        let client = Client {
            connections: (0..connections).map(|_| Connection::new(target)).collect(),
            request,
            messages,
        };
        for connection in &client.connections {
            let opened = connection.sender().await;
            opened.map_err(|failure| anyhow::anyhow!(failure.message))?;
        }
        Ok(client)
    }

    pub(super) fn room(&self) -> usize {
        self.connections.len() * STREAMS
    }

    pub(super) async fn call(&self, number: u64) -> Result<(), Failure> {
        let message = match &self.messages[number as usize % self.messages.len()] {
            Message::Encoded(bytes) => bytes.clone(),
            Message::Filled(line, input) => encode(input, &line.fill(number))
                .map_err(|error| Failure::new(Status::Payload, format!("{error:#}")))?,
        };
        let connection = &self.connections[number as usize % self.connections.len()];
        let (opening, sender) = connection.sender().await?;
        let ended = self.send(sender, message).await;
        match ended {
            Ok(result) => result,
            Err(error) => {
                // A reset ends one call; everything else is the end of the connection.
                if !error.is_reset() {
                    connection.close(opening);
                }
                Err(Failure::new(Status::Lost, error))
            }
        }
    }

    async fn send(
        &self,
        sender: SendRequest<Bytes>,
        message: Bytes,
    ) -> Result<Result<(), Failure>, h2::Error> {
        let mut sender = sender.ready().await?;
        let (answer, mut sending) = sender.send_request(self.request.clone(), false)?;
        sending.send_data(message, true)?;
        let (head, mut body) = answer.await?.into_parts();
        if head.status != http::StatusCode::OK {
            let status = head.status.as_u16();
            return Ok(Err(Failure::new(Status::Http(status), head.status)));
        }
        if body.is_end_stream() {
            return Ok(ended(&head.headers));
        }
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
        }
        let trailers = body.trailers().await?;
        Ok(ended(&trailers.unwrap_or_default()))
    }
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

/// A message as it is sent: not compressed, its length, and the message.
fn encode(input: &MessageDescriptor, json: &str) -> anyhow::Result<Bytes> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(input.clone(), &mut deserializer)?;
    deserializer.end()?;
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).context("the message is longer than 4 GiB")?);
    message.encode(&mut bytes)?;
    Ok(bytes.freeze())
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
                let cause = format!("failed to connect to {}: {error:#}", self.target.address());
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
