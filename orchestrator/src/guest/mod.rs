//! A booted guest: one SSH session, and what is done over it.
//!
//! ```text
//! /opt/pspd/SERVICE/releases/DIGEST/   one release: the executable, its files, its unit
//! /opt/pspd/SERVICE/current            a link to the release in use, switched by one rename
//! /opt/pspd/SERVICE/previous           a link to the one before, for going back
//! /opt/pspd/SERVICE/identity           a link to the certificate in use, switched by one rename without a restart
//! /etc/systemd/system/SERVICE.service  a link to the current release's unit
//! ```
//! The guest is taken to be slow: each process that is started there costs tens of milliseconds, so that looking,
//! pushing and activating are one script each.

mod connect;
mod deploy;
mod firmware;
mod logs;
mod openssh;
mod release;
mod script;
mod session;
mod tidy;
mod unit;

pub use connect::ConnectError;
pub use openssh::openssh_arguments;
pub use release::{Content, Release, ReleaseFile};
pub use session::Output;

use session::Session;

/// An authenticated session with a guest whose host key is the pinned one. Its methods block.
pub struct Guest {
    session: Session,
}

/// What activating a release did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activated {
    /// It was in use and active already.
    Unchanged,
    Restarted,
    /// It is in use now, and could not be started.
    Failed,
}

/// Where rolling back led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolledBack {
    /// There is no release before; the service is stopped.
    Nowhere,
    To(crate::spec::Digest),
    /// It is in use again, and does not start either.
    Failed(crate::spec::Digest),
}
