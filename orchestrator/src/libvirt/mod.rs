//! libvirt: the only module that knows the `virt` and `virt-sys` crates.
//!
//! Owns connections, the XML of domains and networks in both directions, lifecycle events and consoles.
//! Every call blocks: async callers use `spawn_blocking`. It decides nothing: which objects there should be is
//! [`crate::plan`]'s. A [`Domain`] or [`Network`] handle is given out only for what the deployment owns, so no
//! operation of this module can reach a foreign object.

mod capabilities;
mod connection;
mod console;
mod definition;
mod description;
mod domain;
mod error;
mod events;
mod ffi;
mod network;
mod ownership;
mod render;
mod snapshot;
mod trial;
mod xml;

pub use capabilities::{Capabilities, Version, Versions};
pub use connection::{Connection, DomainSummary, NetworkSummary};
pub use console::{Console, ConsoleReader, ConsoleWriter};
pub use definition::{
    Disk, DiskFormat, DomainDefinition, FwCfg, Interface, KernelBoot, Loader, NetworkDefinition,
    NetworkHost,
};
pub use description::{
    DiskDescription, DomainDescription, InterfaceDescription, NetworkDescription,
};
pub use domain::{Affect, Domain, DomainState, DomainStats};
pub use error::{Cause, Error, Kind, Malformed, Owner, Result};
pub use events::{Lifecycle, LifecycleChange, LifecycleEvent, StopReason};
pub use network::Network;
pub use ownership::Ownership;
pub use trial::{BootNetwork, Medium, Trial};
