//! Load on one service: calls at a rate or by a number of users, and what they measured.
//!
//! `engine` decides when a call is sent, and `record` what counts. They know no protocol: `grpc` and `http` send, over the
//! connections of one [`Target`](crate::reflection::Target); `documents` also records what each call did. `payload` fills
//! the fields of messages. `result` has the figures, which `table`, `page` and JSON show.

mod call;
pub(crate) mod chart;
mod client;
mod connection;
mod documents;
mod engine;
mod grpc;
mod http;
mod pacer;
mod page;
mod payload;
mod record;
mod result;
mod table;

pub use client::Client;
pub use documents::{Document, Documents, Found, Outcome, Recorded};
pub use engine::{Counts, Load, Measured, Schedule, run, traced};
pub use page::page;
pub use payload::{Line, lines};
pub use record::{End, Timed};
pub use result::{PerSecond, Results};
pub(super) use table::shown;
pub use table::table;
#[cfg(test)]
pub(crate) use table::tests::sample;
