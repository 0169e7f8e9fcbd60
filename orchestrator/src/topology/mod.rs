//! Text to [`Spec`]: parsing and validation, every fault at once, each with its place.
//!
//! ```text
//! text --tree--> nodes with positions --(keys) read--> values --resolve--> Spec
//! ```
//!
//! The keys that a topology may have, and what they mean, are one table ([`keys`]): the validation, the JSON Schema
//! and the reference's completeness test all come from it. Only [`load`] touches the file system.

mod fault;
mod keys;
mod read;
mod resolve;
mod schema;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::spec::Spec;

pub use fault::{Fault, Faults};
pub use schema::schema;

/// A topology of a hundred domains has about 50 KiB.
const LARGEST: u64 = 1 << 20;

/// Reads and validates a topology file; paths in it are relative to its folder.
pub fn load(path: &Path) -> Result<Spec, Faults> {
    let whole = |message: String| Faults::of_file(path, message);
    let text = read_text(path).map_err(whole)?;
    let path = std::path::absolute(path).map_err(|error| whole(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    parse(&text, folder, &|path| match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Folder,
        Ok(_) => Found::File,
        Err(_) => Found::Nothing,
    })
    .map_err(|faults| Faults::in_text(&path, &text, faults))
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path)
        .map_err(|error| format!("cannot be opened: {error}; `pspd init` writes a topology"))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 1 MiB; no topology is".into());
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 (byte {})", error.utf8_error().valid_up_to()))
}

/// What is at a path of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    File,
    Folder,
    Nothing,
}

/// Validates a topology's text. `folder` is what its paths are relative to; `look` tells what is at a path.
pub fn parse(text: &str, folder: &Path, look: &dyn Fn(&Path) -> Found) -> Result<Spec, Vec<Fault>> {
    let tree = tree::parse(text).map_err(|fault| vec![fault])?;
    resolve::resolve(&tree, folder, look)
}

/// The commented file that `pspd init` writes.
pub fn starter() -> &'static str {
    include_str!("starter.yaml")
}
