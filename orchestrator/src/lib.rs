//! Brings a libvirt host to the state described by one topology file.
//!
//! The main path, in order: [`topology`] (text to [`spec::Spec`]), [`observe`] (host to `Observed`),
//! [`plan`] (both to an ordered graph of steps), [`execute`] (runs the steps, with a journal and undo).
//! Steps act on [`libvirt`], [`lab`], [`image`] and [`guest`].

pub mod accel;
pub mod archive;
pub mod bench;
pub mod boot;
pub mod cancelled;
pub mod cli;
pub mod definition;
pub mod disk;
pub mod doctor;
pub mod event;
pub mod execute;
pub mod firmware;
mod folder;
pub mod guest;
pub mod health;
pub mod identity;
pub mod image;
pub mod intent;
pub mod lab;
pub mod libvirt;
pub mod observe;
pub mod observed;
pub mod plan;
mod printable;
mod progress;
pub mod reach;
pub mod report;
pub mod spec;
pub mod state;
mod tool;
pub mod topology;
