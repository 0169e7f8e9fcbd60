//! Disks as files: what qcow2 files contain, how qemu-img makes and changes them, what the overlays of a snapshot are
//! called, their layers, and the disk that carries releases.
//!
//! Owns no folder: callers say where a disk is. libvirt freezes and merges the disks of running domains.

mod clones;
pub mod layers;
mod opened;
mod overlay;
pub mod qcow2;
mod qemu_img;
pub mod release;
mod unmerged;

pub use clones::{clones, kept_layers};
pub use layers::LayeredDisk;
pub use opened::{compare, is_overwritten, opened};
pub use overlay::{is_overlay, overlay};
pub use qemu_img::{absorb, commit, convert_raw, create, create_overlay, flatten, rebase, resize};
pub use unmerged::{domains_with_overlays, overlays};
