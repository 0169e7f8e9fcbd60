//! Operations in a booted guest over one SSH session.
//!
//! ```text
//! /opt/pspd/SERVICE/releases/DIGEST/   one release: the executable, its files, its unit
//! /opt/pspd/SERVICE/trees/DIGEST/      a directory of releases, whose files they share
//! /opt/pspd/SERVICE/current            a link to the release in use, switched by one rename
//! /opt/pspd/SERVICE/previous           a link to the previous release, for rolling back
//! /opt/pspd/SERVICE/identity           a link to the certificate in use, switched by one rename without a restart
//! /etc/systemd/system/SERVICE.service  a link to the current release's unit
//! ```
//! Guests can be slow: starting a process takes tens of milliseconds, so inspecting, pushing and activating are one
//! script each.

mod clock;
mod connect;
mod deploy;
mod disturb;
mod encode;
mod executable;
mod fault;
mod file_systems;
mod find_disk;
mod firmware;
mod key_log;
mod lines;
mod logs;
mod openssh;
mod packs;
mod prepare;
mod program;
mod release;
mod running;
mod script;
mod session;
mod shaping;
mod tidy;
mod transfer;
mod unit;

pub use connect::ConnectError;
pub use deploy::Pushing;
pub(crate) use encode::{argument as unit_argument, environment_value, word as shell_word};
pub use openssh::openssh_options;
pub use release::{Content, Release, ReleaseFile};
pub use running::Fault;
pub use session::Output;
pub(crate) use unit::SECRET_BELOW;
#[cfg(test)]
pub(crate) use unit::secrets;

use session::Session;

/// An authenticated session with a guest whose host key is the pinned one. Its methods block.
pub struct Guest {
    session: Session,
}

/// The result of activating a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activated {
    /// The release was already active.
    Unchanged,
    Restarted,
    /// The release is current, but its service failed to start.
    Failed,
}

/// The result of rolling back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolledBack {
    /// There is no previous release; the service was stopped.
    Nowhere,
    To(pspd_model::spec::Digest),
    /// The previous release is current again, but its service failed to start, too.
    Failed(pspd_model::spec::Digest),
}
