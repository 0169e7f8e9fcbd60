//! What `pspd bench` measures, each in a lab of its own that is removed afterwards.

mod chart;
mod compatibility;
pub mod firmware;
mod html;
mod page;
mod result;
mod settings;
mod tables;

pub use page::page;
pub use result::{Case, Results, Run, Spread};
pub use tables::tables;
