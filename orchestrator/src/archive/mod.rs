//! A deployment as one file: what `pspd export` packs, what `pspd import` takes apart, and what a person with tar and
//! virsh can use as it is. The format is docs/archive.md's.
//!
//! ```text
//! export: Spec, disks --contents--> items --manifest--> write (tar, then compress)
//! import: read (decompress, then tar) --> manifest, checked --> unpack into a staging folder --> place, by rename
//! ```
//!
//! An archive is untrusted input: entries are iterated and compared with the manifest, nothing is created before the whole
//! manifest is checked, no name becomes a path unchecked, and every digest is computed again.

mod blank;
mod check;
mod compress;
mod contents;
mod entries;
mod entry;
mod export;
mod gzip;
mod hashing;
mod import;
mod item;
mod manifest;
mod merge;
mod place;
mod portable;
mod readme;
mod sizes;
mod temp_file;
#[cfg(test)]
mod tests;
mod xz;

pub use compress::Format;
pub use contents::{Contents, Deployment};
pub use export::{Packed, Target, pack};
pub use import::Opened;
pub use manifest::Manifest;
pub use merge::merge;
pub use place::{place, placement, warnings};

/// What the threads of compression may take in all, in bytes; what else pspd holds fits beside it into 512 MiB.
const MEMORY: u64 = 448 << 20;
/// The folder that all of an archive's files are in.
pub const FOLDER: &str = "vm-export";
/// Nearly empty disks compress a hundredfold. What unpacks to more than its own size, times this, is made to fill disks.
const LARGEST_RATIO: u64 = 250;
/// Smaller archives are harmless at any ratio.
const HARMLESS: u64 = 192 << 20;

/// Whether an archive of `packed` bytes may unpack to `total` bytes. Export writes no other, and import reads no other.
fn is_plausible(packed: u64, total: u64) -> bool {
    total <= HARMLESS || total / LARGEST_RATIO <= packed
}

/// Where the archive's XML expects disks and ROMs: libvirt's own folder.
pub const IMAGES: &str = "/var/lib/libvirt/images";
