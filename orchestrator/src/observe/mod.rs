//! A host to [`Observed`](pspd_model::observed::Observed): what libvirt, the disks and the guests report. Reading never writes.

mod disks;
mod host;
mod routes;

pub use host::{Extent, Host, healths, images_in_use, observe, roms_in_use};
pub use routes::routed_networks;
