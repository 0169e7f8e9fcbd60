//! libvirt: the only module that uses the `virt` and `virt-sys` crates.
//!
//! Owns connections, writing and reading the XML of domains and networks, lifecycle events and consoles. Every call
//! blocks: async callers use `spawn_blocking`. It makes no decisions: [`pspd_model::plan`] decides which objects should
//! exist. A [`Domain`] or [`Network`] handle is returned only for objects that the deployment owns, so that no
//! operation of this module can change a foreign object.

mod capabilities;
mod connection;
mod console;
mod definition;
mod description;
mod domain;
mod error;
mod events;
mod ffi;
mod lifecycle;
mod memory;
mod network;
mod objects;
mod ownership;
mod probe;
mod process;
mod render;
mod snapshot;
mod sources;
mod throttle;
mod usage;
mod xml;

pub use capabilities::Capabilities;
pub use connection::Connection;
pub use console::{Console, ConsoleReader, ConsoleWriter};
pub use definition::{Disk, DiskFormat, DomainConfig, FwCfg, Loader};
pub use description::{
    DiskDescription, DomainDescription, InterfaceDescription, NetworkDescription,
};
pub use domain::Domain;
pub use error::{Cause, Error, Kind, Malformed, Owner, Result};
pub use events::{LifecycleChange, LifecycleEvent, StopReason};
pub use lifecycle::Lifecycle;
pub use network::Network;
pub use objects::{DomainSummary, NetworkSummary};
pub use probe::{BootNetwork, Medium, Probe};
pub use render::plain_network_xml;
pub use usage::{Usage, usage};
