//! The whole reference system on loopback: three services with real TLS and real storage, and their HTTP side.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod access;
mod browser;
mod business;
mod connections;
mod edge;
mod grpc;
mod limits;
mod openapi;
mod running;
