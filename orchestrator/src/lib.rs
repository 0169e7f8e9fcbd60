//! Brings a libvirt host to the state described by one topology file.
//!
//! The main path, in order: [`topology`] (text to [`Spec`](pspd_model::spec::Spec)), [`observe`] (host to
//! [`Observed`](pspd_model::observed::Observed)), [`pspd_model::plan`] (an ordered graph of steps), [`execute`] (runs the
//! steps, with a journal and undo). Steps act on [`libvirt`], [`lab`], [`image`] and [`guest`].

pub mod accel;
pub mod address;
pub mod apply;
pub mod archive;
pub mod bench;
pub mod boot;
pub mod cancelled;
pub mod capture;
pub mod cli;
pub mod clone;
mod cuts;
mod digest;
pub mod disk;
mod dns;
pub mod doctor;
pub mod event;
pub mod execute;
pub mod experiment;
pub mod firmware;
mod folder;
mod free_memory;
mod full_disk;
pub mod guest;
pub mod health;
mod held;
pub mod hint;
pub mod identity;
pub mod image;
pub mod libvirt;
pub mod log_text;
pub mod observe;
mod other_hosts;
pub mod placement;
mod progress;
pub mod reach;
pub mod reflection;
mod remote;
pub mod report;
pub mod state;
pub mod systemd;
mod terminal;
mod tool;
pub mod topology;
pub mod tree;
