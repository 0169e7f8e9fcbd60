//! gRPC services that describe themselves: where they are, their methods by reflection, and calls with JSON.
//!
//! ```text
//! JSON values --input--> messages --codec--> the method --codec--> messages --> JSON values
//! ```

mod codec;
mod describe;
mod input;
mod metadata;
mod services;
mod target;

use std::time::Duration;

use anyhow::Context as _;
use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

pub use describe::{method as describe_method, signature};
pub use input::{Input, read};
pub use metadata::Header;
pub use services::{Services, method};
pub use target::{Stream, Target};

/// A service that described itself.
pub struct Service {
    channel: Channel,
    services: Services,
}

impl Service {
    pub async fn open(target: &Target) -> anyhow::Result<Service> {
        let channel = target.channel().await?;
        let services = Services::describe(channel.clone()).await?;
        Ok(Service { channel, services })
    }

    /// All methods, by service.
    pub fn methods(&self) -> Vec<MethodDescriptor> {
        self.services.methods()
    }

    /// Finds a method by `package.Service/Method`, `package.Service.Method`, or `Method` if one service alone has it.
    pub fn method(&self, wanted: &str) -> anyhow::Result<MethodDescriptor> {
        self.services.method(wanted)
    }

    /// Calls a method with metadata. The answers of a method without a stream are one. Without `limit`, a call takes any
    /// time.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        messages: impl futures::Stream<Item = DynamicMessage> + Send + 'static,
        metadata: MetadataMap,
        limit: Option<Duration>,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let service = method.parent_service().full_name().to_owned();
        let path = PathAndQuery::try_from(format!("/{service}/{}", method.name()))
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut request = Request::new(messages);
        *request.metadata_mut() = metadata;
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        let codec = codec::Codec::new(method.output());
        Ok(client.streaming(request, path, codec).await?.into_inner())
    }
}

/// A message as JSON, with fields that have their default.
pub fn json(message: &DynamicMessage, pretty: bool) -> anyhow::Result<String> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut text = Vec::new();
    let written = if pretty {
        let mut serializer = serde_json::Serializer::pretty(&mut text);
        message.serialize_with_options(&mut serializer, &options)
    } else {
        let mut serializer = serde_json::Serializer::new(&mut text);
        message.serialize_with_options(&mut serializer, &options)
    };
    written.context("failed to write an answer as JSON")?;
    Ok(String::from_utf8(text)?)
}
