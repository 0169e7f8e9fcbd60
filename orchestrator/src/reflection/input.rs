//! What is sent: JSON values, one after the other, each a message.

use std::io::Read;

use anyhow::{Context as _, bail};
use futures::Stream;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

/// Messages that are sent as they are read.
pub struct Input<S> {
    pub messages: S,
    /// What is wrong with the values; nothing if they end as they should.
    pub fault: oneshot::Receiver<anyhow::Error>,
}

/// Reads the messages of a call on a thread of its own, which ends with the values or with the call. `context` says what
/// failed if they are wrong. A method without a stream takes one message; without a value, that is the empty one.
pub fn read(
    from: impl Read + Send + 'static,
    context: &'static str,
    method: &MethodDescriptor,
) -> Input<impl Stream<Item = DynamicMessage> + Send + 'static> {
    let (sender, messages) = mpsc::channel(16);
    let (failed, fault) = oneshot::channel();
    let (input, streams) = (method.input(), method.is_client_streaming());
    let name = method.full_name().to_owned();
    std::thread::spawn(move || {
        if let Err(error) = send(from, &input, streams, &name, &sender) {
            // The stream stays open until the fault was seen: its end would be a whole call.
            let _ = failed.send(error.context(context));
            futures::executor::block_on(sender.closed());
        }
    });
    Input {
        messages: ReceiverStream::new(messages),
        fault,
    }
}

fn send(
    from: impl Read,
    input: &MessageDescriptor,
    streams: bool,
    method: &str,
    to: &mpsc::Sender<DynamicMessage>,
) -> anyhow::Result<()> {
    let mut waiting: Option<DynamicMessage> = None;
    let values = serde_json::Deserializer::from_reader(from).into_iter::<Value>();
    for (number, value) in (1..).zip(values) {
        let value = value.with_context(|| format!("value {number} is not valid JSON"))?;
        let message = DynamicMessage::deserialize(input.clone(), value).with_context(|| {
            let name = input.full_name();
            format!("value {number} is not a message of type `{name}`")
        })?;
        if !streams && waiting.is_some() {
            bail!("`{method}` takes one message, and there are several values");
        }
        if streams {
            if to.blocking_send(message).is_err() {
                // The call has ended.
                return Ok(());
            }
        } else {
            waiting = Some(message);
        }
    }
    if !streams {
        let message = waiting.unwrap_or_else(|| DynamicMessage::new(input.clone()));
        let _ = to.blocking_send(message);
    }
    Ok(())
}
