//! A host to [`Observed`](pspd_model::observed::Observed): what libvirt, the disks and the guests report. Reading never writes.

mod attached;
mod disks;
mod host;
mod in_use;
mod routes;
pub(crate) mod status;

pub use host::{Extent, Host, healths, observe};
pub use in_use::{images_in_use, roms_in_use};
pub use routes::routed_networks;
