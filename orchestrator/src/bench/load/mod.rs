//! Load on one service: calls at a rate or by a number of users, and what they measured.
//!
//! `engine` decides when a call is sent, and `record` what counts. They know no protocol: `grpc` and `http` send, over the
//! connections of one `target`. `reflection` finds the method's message, `payload` fills its fields. `result` has the
//! figures, which `table`, `page` and JSON show.

mod call;
mod chart;
mod client;
mod engine;
mod grpc;
mod http;
mod pacer;
mod page;
mod payload;
mod record;
mod reflection;
mod result;
mod table;
mod target;

pub use client::Client;
pub use engine::{Counts, Load, Measured, Schedule, run};
pub use page::page;
pub use payload::{Line, lines};
pub use reflection::Services;
pub use result::Results;
pub use table::table;
pub use target::Target;
