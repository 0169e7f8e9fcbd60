//! gRPC calls at low cost: messages that are encoded before the clock starts where they are
//! the same in each call. An answer's message is read and not decoded; its status counts.

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Version};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};

use super::call::{Failure, Status};
use super::connection::{Answer, Connections};
use super::payload::Line;
use crate::reflection::{self, Target};

/// Connections for one method of one service.
pub struct Client {
    connections: Connections,
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
        Ok(Client {
            connections: Connections::open(target, connections).await?,
            request: request(target, &method)?,
            messages,
        })
    }

    pub(super) fn room(&self) -> usize {
        self.connections.room()
    }

    pub(super) async fn call(&self, number: u64) -> Result<(), Failure> {
        let message = match &self.messages[number as usize % self.messages.len()] {
            Message::Encoded(bytes) => bytes.clone(),
            Message::Filled(line, input) => encode(input, &line.fill(number))
                .map_err(|error| Failure::new(Status::Payload, format!("{error:#}")))?,
        };
        let call = self
            .connections
            .call(number, &self.request, message, Answer::Dropped);
        call.await.map(drop)
    }
}

/// The head of each call of a method.
pub(super) fn request(target: &Target, method: &MethodDescriptor) -> anyhow::Result<Request<()>> {
    let service = method.parent_service().full_name().to_owned();
    let (scheme, authority) = (target.scheme(), target.authority());
    let uri = format!("{scheme}://{authority}/{service}/{}", method.name());
    let request = Request::post(uri)
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("pspd/", env!("CARGO_PKG_VERSION")));
    Ok(request.body(())?)
}

/// A message as it is sent: not compressed, its length, and the message.
pub(super) fn encode(input: &MessageDescriptor, json: &str) -> anyhow::Result<Bytes> {
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
