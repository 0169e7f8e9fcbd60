//! The values of pspd and its decisions: everything that the planner, the executor and the reporters share.
//!
//! ```text
//! text --topology--> Spec --+
//!                  Intent --+--plan--> Plan
//!                Observed --+
//! ```
//! Performs no I/O: no file, socket, process, environment or clock. `clippy.toml` beside this crate's manifest keeps it so.

pub mod definition;
pub mod experiment;
pub mod fault;
pub mod harm;
pub mod hint;
pub mod history;
pub mod intent;
pub mod observed;
pub mod plan;
pub mod printable;
pub mod publish;
pub mod schedule;
pub mod shape;
pub mod similar;
pub mod spec;
pub mod topology;
