//! Parses and validates a topology file. Reports all errors at once, each with its position.
//!
//! ```text
//! text --tree--> nodes with positions --(keys) read--> values --resolve--> Spec
//! ```
//!
//! One table defines the keys of a topology ([`keys`]): the validation, the JSON Schema and the completeness test of
//! the reference all use it. Only [`load`] accesses the file system.

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

/// The maximum size of a file. A topology with a hundred domains has about 50 KiB.
const LARGEST: u64 = 1 << 20;

/// Reads and validates a topology file. Its paths are relative to its directory.
pub fn load(path: &Path) -> Result<Spec, Faults> {
    let of_file = |message: String| Faults::of_file(path, message);
    let text = read_text(path).map_err(of_file)?;
    let path = std::path::absolute(path).map_err(|error| of_file(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    parse(&text, folder, &|path| match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Folder,
        Ok(_) => Found::File,
        Err(_) => Found::Nothing,
    })
    .map_err(|faults| Faults::in_text(&path, &text, faults))
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| {
        format!("failed to open the file: {error}. Run `pspd init` to create a topology")
    })?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("failed to read the file: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err("the file is larger than 1 MiB, the maximum for a topology".into());
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "the file is not UTF-8 (byte {})",
            error.utf8_error().valid_up_to()
        )
    })
}

/// The type of file at a path of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    File,
    Folder,
    Nothing,
}

/// Validates the text of a topology. Its paths are relative to `folder`; `look` returns the type of file at a path.
pub fn parse(text: &str, folder: &Path, look: &dyn Fn(&Path) -> Found) -> Result<Spec, Vec<Fault>> {
    let tree = tree::parse(text).map_err(|fault| vec![fault])?;
    resolve::resolve(&tree, folder, look)
}

/// Returns the commented file that `pspd init` writes.
pub fn starter() -> &'static str {
    include_str!("starter.yaml")
}
