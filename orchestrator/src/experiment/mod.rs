//! Runs an experiment on a deployment, and says what held.
//!
//! ```text
//! load (a thread of its own) ────────────┐
//! timeline: phases, faults, power ───────┼──> Run: figures and checks ──> JSON, page
//! health of each service, every second ──┘
//! ```
//! What a step does is the caller's: the code of its command. What a file means is [`pspd_model::experiment`]'s.

mod chart;
mod check;
mod checks;
mod history;
mod load;
mod page;
mod result;
mod run;
mod timeline;

pub use check::Check;
pub use load::{Payload, Sending};
pub use page::page;
pub use result::{Domain, Report, Run, Versions};
pub use run::{Setup, run};
pub use timeline::Deed;
