//! Parses and validates a topology file. Reports all errors at once, each with its position.
//!
//! ```text
//! text --tree--> nodes with positions --(keys) read--> values --resolve--> Spec
//! ```
//!
//! One table defines the keys of a topology ([`keys`]): the validation, the JSON Schema and the completeness test of
//! the reference all use it.

mod env_file;
mod fault;
pub(crate) mod keys;
pub(crate) mod read;
mod resolve;
mod schema;
pub(crate) mod tree;
pub(crate) mod units;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::spec::{Name, Spec};

pub(crate) use fault::Position;
pub use fault::{Fault, Faults, MOST_SHOWN};
pub use read::control;
pub(crate) use resolve::LEAST_MEMORY;
pub use schema::schema;
pub(crate) use schema::schema_of;
pub use units::size;

/// The maximum length of a topology's text, in bytes. A topology with a hundred domains has about 50 KiB.
pub const LARGEST: u64 = 1 << 20;

/// What to do about an empty file.
const START: &str = "run `pspd init` to create a topology";

/// The type of file at a path of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    File,
    Folder,
    /// A device, a pipe or a socket: it may have no end.
    Other,
    Nothing,
}

/// The host's files that a topology names.
pub trait Host {
    /// Returns the type of file at a path.
    fn look(&self, path: &Path) -> Found;
    /// Returns the text of a small file, or why there is none.
    fn read(&self, path: &Path) -> Result<String, String>;
}

/// Validates the text of a topology that reads no other file. Its paths are relative to `folder`; `look` returns the type of
/// file at a path.
pub fn parse(text: &str, folder: &Path, look: &dyn Fn(&Path) -> Found) -> Result<Spec, Vec<Fault>> {
    struct Looking<'a>(&'a dyn Fn(&Path) -> Found);

    impl Host for Looking<'_> {
        fn look(&self, path: &Path) -> Found {
            (self.0)(path)
        }

        fn read(&self, path: &Path) -> Result<String, String> {
            Err(format!("`{}` is not read here", path.display()))
        }
    }

    parse_on(text, folder, &Looking(look))
}

/// Validates the text of a topology. Its paths are relative to `folder`.
pub fn parse_on(text: &str, folder: &Path, host: &dyn Host) -> Result<Spec, Vec<Fault>> {
    let tree = tree::parse(text, START).map_err(|fault| vec![fault])?;
    resolve::resolve(&tree, folder, host)
}

/// Returns the name of a topology, whatever else is wrong with the text or with the files that it names.
pub fn name(text: &str) -> Option<Name> {
    let tree::Value::Map(entries) = tree::parse(text, START).ok()?.value else {
        return None;
    };
    entries
        .into_iter()
        .find_map(|(key, node)| match node.value {
            tree::Value::Scalar { text, .. } if key.name == "name" => Name::new(&text).ok(),
            _ => None,
        })
}
