//! What pspd carries, so that it works without its source: programs for guests, the recipe of their image, and examples.
//!
//! This crate only holds files; where they are written to, and what for, is decided by the caller.

mod example;
mod program;

pub use example::{Content, Example, File};
pub use program::Program;

use rust_embed::RustEmbed;

/// The files of the folder `images/debian`, a recipe.
#[derive(RustEmbed)]
#[folder = "../../images/debian"]
pub struct Debian;
