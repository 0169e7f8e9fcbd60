//! The same operations over gRPC, REST, SOAP and WebSocket: one server for all of them, and a caller that measures.
//!
//! - `handler`: what the operations do, for all protocols
//! - `grpc`, `rest`, `soap`, `websocket`: both sides of each protocol, written as its users would
//! - `server`, `connector`: one port with mutual TLS, and connections to it that count their bytes
//! - `calls`, `protocol`: what a caller does, and the callers of each protocol
//! - `measure`: what is measured

mod base64;
pub mod calls;
pub mod connector;
mod grpc;
pub mod handler;
pub mod measure;
mod pool;
pub mod protocol;
mod rest;
pub mod server;
mod soap;
pub mod tls;
mod usage;
mod websocket;

/// The messages, as generated.
pub mod records {
    tonic::include_proto!("records.v1");
}
