//! The protocols: which kinds of operations each has, and its callers.

use std::fmt;

use serde::Serialize;

use crate::calls::Calls;
use crate::connector::{Connector, Target, Version};
use crate::{grpc, rest, soap, websocket};

/// A way to call the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Grpc,
    RestHttp1,
    RestHttp2,
    Soap,
    WebsocketJson,
    WebsocketProtobuf,
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unary,
    ServerStream,
    ClientStream,
    Bidirectional,
}

impl Protocol {
    pub const ALL: [Protocol; 6] = [
        Protocol::Grpc,
        Protocol::RestHttp1,
        Protocol::RestHttp2,
        Protocol::Soap,
        Protocol::WebsocketJson,
        Protocol::WebsocketProtobuf,
    ];

    /// Whether the protocol has the kind at all.
    pub fn has(self, kind: Kind) -> bool {
        let whole = matches!(self, Self::RestHttp1 | Self::RestHttp2 | Self::Soap);
        !(whole && kind == Kind::Bidirectional)
    }

    /// Callers and the connections that they use: over HTTP/2 one for all, else one for each.
    pub fn callers(
        self,
        target: &Target,
        count: usize,
    ) -> anyhow::Result<(Connector, Vec<Box<dyn Calls>>)> {
        let connector = target.connector(match self {
            Self::Grpc | Self::RestHttp2 => Version::Http2,
            _ => Version::Http1,
        });
        let callers = match self {
            Self::Grpc => boxed(count, grpc::Caller::new(&connector)?),
            Self::RestHttp1 | Self::RestHttp2 => boxed(count, rest::Caller::new(&connector)),
            Self::Soap => boxed(count, soap::Caller::new(&connector)),
            Self::WebsocketJson => each(count, &connector, websocket::Encoding::Json),
            Self::WebsocketProtobuf => each(count, &connector, websocket::Encoding::Protobuf),
        };
        Ok((connector, callers))
    }
}

fn boxed(count: usize, caller: impl Calls + Clone + 'static) -> Vec<Box<dyn Calls>> {
    let one = || Box::new(caller.clone()) as Box<dyn Calls>;
    (0..count).map(|_| one()).collect()
}

fn each(count: usize, connector: &Connector, encoding: websocket::Encoding) -> Vec<Box<dyn Calls>> {
    let one = || Box::new(websocket::Caller::new(connector, encoding)) as Box<dyn Calls>;
    (0..count).map(|_| one()).collect()
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::RestHttp1 => "REST, HTTP/1.1",
            Self::RestHttp2 => "REST, HTTP/2",
            Self::Soap => "SOAP 1.2",
            Self::WebsocketJson => "WebSocket, JSON",
            Self::WebsocketProtobuf => "WebSocket, protobuf",
        })
    }
}
