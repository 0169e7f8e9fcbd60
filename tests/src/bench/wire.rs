//! Unary gRPC calls at minimal cost: HTTP/2 by `h2` itself, requests and messages built before the clock starts.
//!
//! The load shares its processors with the server that it measures, so each microsecond that a call costs here is
//! missing there. Every response is still checked: status OK, and a message.

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request, Version};
use prost::Message;
use tokio::net::TcpStream;

/// Large enough that no server waits for it.
const WINDOW: u32 = 1 << 24;

/// One connection, for one method of one server.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl Connection {
    /// Connects to a loopback port; `path` is the method's, such as `/package.Service/Method`.
    pub(crate) async fn open(port: u16, path: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(stream)
            .await?;
        // A connection that breaks fails its calls, too.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::post(format!("http://127.0.0.1:{port}{path}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        Ok(Connection { sender, request })
    }

    /// Sends a message and waits for the response message.
    pub(crate) async fn call(&self, message: Bytes) -> anyhow::Result<Bytes> {
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut sending) = sender.send_request(self.request.clone(), false)?;
        sending.send_data(message, true)?;
        let answer = answer.await?;
        if answer.body().is_end_stream() {
            succeeded(answer.headers())?;
            bail!("an answer without a message");
        }
        let mut body = answer.into_body();
        let mut framed = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            framed = match framed.is_empty() {
                true => chunk,
                false => [framed, chunk].concat().into(),
            };
        }
        let trailers = body.trailers().await?;
        succeeded(&trailers.context("an answer without a status")?)?;
        ensure!(framed.len() > PREFIX, "an answer without a message");
        Ok(framed.slice(PREFIX..))
    }
}

fn succeeded(headers: &HeaderMap) -> anyhow::Result<()> {
    let status = headers.get("grpc-status").context("no status")?;
    ensure!(status == "0", "status {status:?}: {headers:?}");
    Ok(())
}

/// A byte that says whether the message is compressed, and its length: gRPC over HTTP/2, length-prefixed messages.
const PREFIX: usize = 5;

/// A message as it is sent.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}
