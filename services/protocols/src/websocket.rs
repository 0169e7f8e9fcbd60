//! WebSocket: messages of JSON or protobuf over one connection. It has no methods, so the messages say what they are for.

use anyhow::{Context as _, bail, ensure};
use axum::extract::ws::{self, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use futures::{Sink, SinkExt as _, StreamExt as _, stream};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use prost::Message as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::calls::Calls;
use crate::connector::{Connector, Stream};
use crate::handler::{self, Refused};
use crate::records::frame::Body;
use crate::records::{End, Frame, ListRequest, Record, Summary};

const PATH: &str = "/ws";

/// How a connection's messages are encoded: a subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// What a WebSocket message carries.
enum Payload {
    Text(String),
    Binary(Vec<u8>),
}

impl Encoding {
    fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "records.v1.json",
            Self::Protobuf => "records.v1.protobuf",
        }
    }

    fn of(subprotocol: &[u8]) -> Self {
        match subprotocol == Self::Protobuf.subprotocol().as_bytes() {
            true => Self::Protobuf,
            false => Self::Json,
        }
    }

    fn write(self, body: Body) -> serde_json::Result<Payload> {
        Ok(match self {
            Self::Json => Payload::Text(serde_json::to_string(&body)?),
            Self::Protobuf => Payload::Binary(Frame { body: Some(body) }.encode_to_vec()),
        })
    }
}

fn from_text(text: &str) -> anyhow::Result<Body> {
    serde_json::from_str(text).context("the message is not the expected JSON")
}

fn from_binary(bytes: &[u8]) -> anyhow::Result<Body> {
    Frame::decode(bytes)?.body.context("the message is empty")
}

pub(crate) fn routes() -> axum::Router {
    axum::Router::new().route(PATH, any(upgrade))
}

async fn upgrade(upgrade: WebSocketUpgrade) -> Response {
    let upgrade =
        upgrade.protocols([Encoding::Json, Encoding::Protobuf].map(Encoding::subprotocol));
    let chosen = upgrade.selected_protocol();
    let encoding = Encoding::of(chosen.map_or(b"", |chosen| chosen.as_bytes()));
    // An error is a connection that ended, which the caller sees too.
    upgrade.on_upgrade(move |socket| async move { drop(serve(socket, encoding).await) })
}

async fn serve(mut socket: ws::WebSocket, encoding: Encoding) -> anyhow::Result<()> {
    let mut uploaded = Summary::default();
    while let Some(message) = socket.next().await {
        let body = match message? {
            ws::Message::Text(text) => from_text(&text),
            ws::Message::Binary(bytes) => from_binary(&bytes),
            // The library answers them.
            ws::Message::Ping(_) | ws::Message::Pong(_) => continue,
            ws::Message::Close(_) => break,
        };
        let sink = (&mut socket).with(|body| async move {
            Ok::<_, axum::Error>(match encoding.write(body).map_err(axum::Error::new)? {
                Payload::Text(text) => ws::Message::text(text),
                Payload::Binary(bytes) => ws::Message::binary(bytes),
            })
        });
        let mut sink = std::pin::pin!(sink);
        match body {
            Ok(body) => answer(body, &mut uploaded, sink.as_mut()).await?,
            Err(error) => sink.send(Body::Error(format!("{error:#}"))).await?,
        }
    }
    Ok(())
}

async fn answer(
    body: Body,
    uploaded: &mut Summary,
    mut sink: impl Sink<Body, Error = axum::Error> + Unpin,
) -> Result<(), axum::Error> {
    match body {
        Body::Echo(record) => sink.send(Body::Echo(handler::echo(record))).await,
        Body::List(request) => match handler::list(request.count) {
            Ok(records) => {
                let items = records.map(Body::Item).chain([Body::End(End {})]);
                sink.send_all(&mut stream::iter(items.map(Ok))).await
            }
            Err(Refused(reason)) => sink.send(Body::Error(reason)).await,
        },
        Body::Item(record) => {
            handler::take(uploaded, &record);
            Ok(())
        }
        Body::End(End {}) => sink.send(Body::Summary(std::mem::take(uploaded))).await,
        Body::Summary(_) | Body::Error(_) => {
            sink.send(Body::Error("the message is an answer".to_owned()))
                .await
        }
    }
}

/// The caller's side, which connects at its first call.
pub(crate) struct Caller {
    connector: Connector,
    encoding: Encoding,
    socket: Option<WebSocketStream<Stream>>,
}

impl Caller {
    pub(crate) fn new(connector: &Connector, encoding: Encoding) -> Self {
        Self {
            connector: connector.clone(),
            encoding,
            socket: None,
        }
    }

    async fn connect(&self) -> anyhow::Result<WebSocketStream<Stream>> {
        let url = format!("wss://{}{PATH}", self.connector.target.name);
        let mut request = url.into_client_request()?;
        let subprotocol = self.encoding.subprotocol().try_into()?;
        request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let stream = self.connector.clone().connect().await?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(socket)
    }

    async fn send(&mut self, bodies: impl IntoIterator<Item = Body>) -> anyhow::Result<()> {
        let encoding = self.encoding;
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect().await?,
        };
        for body in bodies {
            socket
                .feed(match encoding.write(body)? {
                    Payload::Text(text) => tungstenite::Message::text(text),
                    Payload::Binary(bytes) => tungstenite::Message::binary(bytes),
                })
                .await?;
        }
        socket.flush().await?;
        self.socket = Some(socket);
        Ok(())
    }

    async fn receive(&mut self) -> anyhow::Result<Body> {
        let socket = self.socket.as_mut().context("not connected")?;
        loop {
            let message = socket.next().await.context("the connection ended")??;
            let body = match message {
                tungstenite::Message::Text(text) => from_text(&text)?,
                tungstenite::Message::Binary(bytes) => from_binary(&bytes)?,
                tungstenite::Message::Close(_) => bail!("the server closed the connection"),
                _ => continue,
            };
            return match body {
                Body::Error(reason) => bail!(reason),
                body => Ok(body),
            };
        }
    }
}

#[tonic::async_trait]
impl Calls for Caller {
    async fn echo(&mut self, record: Record) -> anyhow::Result<Record> {
        self.send([Body::Echo(record)]).await?;
        match self.receive().await? {
            Body::Echo(record) => Ok(record),
            _ => bail!("the answer is of another kind"),
        }
    }

    async fn list(&mut self, count: u32) -> anyhow::Result<Vec<Record>> {
        self.send([Body::List(ListRequest { count })]).await?;
        let mut records = Vec::new();
        loop {
            match self.receive().await? {
                Body::Item(record) => records.push(record),
                Body::End(End {}) => return Ok(records),
                _ => bail!("the answer is of another kind"),
            }
        }
    }

    async fn upload(&mut self, records: Vec<Record>) -> anyhow::Result<Summary> {
        let items = records.into_iter().map(Body::Item);
        self.send(items.chain([Body::End(End {})])).await?;
        match self.receive().await? {
            Body::Summary(summary) => Ok(summary),
            _ => bail!("the answer is of another kind"),
        }
    }

    async fn chat(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Record>> {
        let mut returned = Vec::new();
        for record in records {
            returned.push(self.echo(record).await?);
        }
        ensure!(
            self.socket.is_some() || returned.is_empty(),
            "the connection ended"
        );
        Ok(returned)
    }
}
