//! What is compared: protocols and operations, with their names in JSON and for people.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Grpc,
    RestHttp1,
    RestHttp2,
    Soap,
    WebsocketJson,
    WebsocketProtobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    UnarySmall,
    UnaryLarge,
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
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Grpc => "gRPC",
            Protocol::RestHttp1 => "REST, HTTP/1.1",
            Protocol::RestHttp2 => "REST, HTTP/2",
            Protocol::Soap => "SOAP 1.2",
            Protocol::WebsocketJson => "WebSocket, JSON",
            Protocol::WebsocketProtobuf => "WebSocket, protobuf",
        })
    }
}

impl Operation {
    pub const ALL: [Operation; 5] = [
        Operation::UnarySmall,
        Operation::UnaryLarge,
        Operation::ServerStream,
        Operation::ClientStream,
        Operation::Bidirectional,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::UnarySmall => "Unary, a small record",
            Operation::UnaryLarge => "Unary, a record of 64 KiB",
            Operation::ServerStream => "Server stream, 1,000 small records",
            Operation::ClientStream => "Client stream, 1,000 small records",
            Operation::Bidirectional => {
                "Bidirectional stream, 100 small records, each after the echo of the last"
            }
        })
    }
}
