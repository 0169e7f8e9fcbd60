//! The same operations over gRPC, REST, SOAP and WebSocket: between two guests of a lab of its own, or between two processes on
//! loopback. The program `protocol-bench` (`services/protocols`) is both sides and measures; this module starts it, and shows
//! what it measured.

mod caller;
mod capabilities;
mod chart;
mod guests;
mod kinds;
mod loopback;
mod page;
mod plan;
mod result;
mod table;

pub use capabilities::{CAPABILITIES, Capabilities};
pub use guests::Guests;
pub use kinds::{Operation, Protocol};
pub use loopback::Loopback;
pub use page::page;
pub use plan::Plan;
pub use result::{Case, Results};
pub use table::table;
