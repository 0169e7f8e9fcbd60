//! What `pspd bench` measures: firmware and protocols in a lab of their own that is removed afterwards, load on a running
//! deployment.

mod chart;
mod compatibility;
pub mod firmware;
pub(crate) mod html;
pub mod load;
mod own_lab;
mod page;
pub mod protocol;
mod result;
mod settings;
mod tables;

pub use page::page;
pub use result::{Case, Results, Run, Spread};
pub use tables::tables;
