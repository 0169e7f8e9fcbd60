//! Tests of the service's process: over SQLite, and over a PostgreSQL server of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's own functions fail as its body does"
)]

mod contract;
mod damage;
mod durable;
mod errors;
mod failover;
mod filling;
mod filters;
mod full_disk;
mod location;
mod memory;
mod nodes;
mod postgres;
mod scans;
mod server;
mod small_disk;
mod streams;
mod text;
