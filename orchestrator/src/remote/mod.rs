//! A deployment on another machine: its commands run there, by this very program, over SSH.
//!
//! ```text
//! here                                              there
//! this program ────────── by its digest ──────────> CACHE/programs/DIGEST/pspd
//! the topology and the files that it names ───────> STATE/sent/NAME/topology.yaml, objects/DIGEST
//! `pspd up`, and its signals ─────────────────────> `pspd up` with that topology
//! ```

mod command;
pub(crate) mod cuts;
mod frames;
pub(crate) mod links;
mod program;
mod receive;
mod send;
mod sent;
mod ssh;
mod switch;
pub(crate) mod uplink;

pub(crate) use command::{Printed, Words, follow, run};
pub(crate) use program::{Program, find, room};
pub(crate) use receive::receive;
pub(crate) use send::{Parcel, send};
pub(crate) use ssh::Ssh;

/// What the topology's file is called there, once it is that of the deployment.
pub(crate) const TOPOLOGY: &str = "topology.yaml";

/// What it is called there while it is only planned.
pub(crate) const PLANNED: &str = "planned.yaml";
