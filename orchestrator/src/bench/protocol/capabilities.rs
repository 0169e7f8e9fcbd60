//! What each protocol can do, beside what it costs.

use serde::Serialize;

use super::kinds::Protocol;

/// A protocol's row. Streams are as `protocol-bench` has them.
#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    pub protocol: Protocol,
    pub server_stream: &'static str,
    pub client_stream: &'static str,
    pub bidirectional: &'static str,
    pub contract: &'static str,
    pub browser: &'static str,
}

/// A stream that the protocol itself does not have.
pub(super) const NO: &str = "no";

const LINES: &str = "by agreement: lines of JSON";
const ONE_MESSAGE: &str = "no: one message with all";
const MESSAGES: &str = "by agreement: messages of the application";

pub const CAPABILITIES: [Capabilities; 6] = [
    Capabilities {
        protocol: Protocol::Grpc,
        server_stream: "yes",
        client_stream: "yes",
        bidirectional: "yes",
        contract: "messages and methods (.proto), with generated code for both sides",
        browser: "through gRPC-Web: unary and server streams",
    },
    Capabilities {
        protocol: Protocol::RestHttp1,
        server_stream: LINES,
        client_stream: LINES,
        bidirectional: NO,
        contract: "optional (OpenAPI)",
        browser: "yes; request bodies do not stream",
    },
    Capabilities {
        protocol: Protocol::RestHttp2,
        server_stream: LINES,
        client_stream: LINES,
        bidirectional: NO,
        contract: "optional (OpenAPI)",
        browser: "yes; request bodies stream in some browsers",
    },
    Capabilities {
        protocol: Protocol::Soap,
        server_stream: ONE_MESSAGE,
        client_stream: ONE_MESSAGE,
        bidirectional: NO,
        contract: "messages and methods (WSDL, XML Schema), with generated code in some languages",
        browser: "with XML built by hand",
    },
    Capabilities {
        protocol: Protocol::WebsocketJson,
        server_stream: MESSAGES,
        client_stream: MESSAGES,
        bidirectional: MESSAGES,
        contract: "optional (AsyncAPI)",
        browser: "yes",
    },
    Capabilities {
        protocol: Protocol::WebsocketProtobuf,
        server_stream: MESSAGES,
        client_stream: MESSAGES,
        bidirectional: MESSAGES,
        contract: "messages (.proto), no methods",
        browser: "yes, with a protobuf library",
    },
];

impl Capabilities {
    pub(super) const HEAD: [&'static str; 6] = [
        "protocol",
        "server stream",
        "client stream",
        "bidirectional",
        "typed contract",
        "browser",
    ];

    pub(super) fn cells(&self) -> [String; 6] {
        [
            self.protocol.to_string(),
            self.server_stream.to_owned(),
            self.client_stream.to_owned(),
            self.bidirectional.to_owned(),
            self.contract.to_owned(),
            self.browser.to_owned(),
        ]
    }
}
