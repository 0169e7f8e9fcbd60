//! Errors of libvirt operations, with libvirt's code and message, and what the user can do.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use pspd_model::definition::Ownership;
use virt_sys as sys;

use crate::cancelled::Cancelled;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed libvirt operation; the cause is in the chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to connect to libvirt at `{uri}`")]
    Connect { uri: String, source: Cause },
    #[error(
        "libvirt at `{uri}` accepts connections, but did not answer within {} s",
        waited.as_secs()
    )]
    Silent { uri: String, waited: Duration },
    #[error("failed to {attempt}")]
    Call { attempt: String, source: Cause },
    #[error("{kind} `{name}` already exists and is managed by {owner}")]
    Foreign {
        kind: Kind,
        name: String,
        owner: Owner,
    },
    #[error("failed to parse libvirt's description of {subject}")]
    Report { subject: String, source: Malformed },
    #[error(
        "domain `{domain}` did not shut down within {waited:?}: its guest ignores the power button or is still booting"
    )]
    StillRunning { domain: String, waited: Duration },
    #[error("domain `{domain}` does not react: {detail}")]
    Unresponsive {
        domain: String,
        detail: Cow<'static, str>,
    },
    #[error("domain `{domain}` did not wake up within {waited:?}")]
    StillSuspended { domain: String, waited: Duration },
    #[error(
        "timed out after {waited:?} merging the snapshot of disk `{disk}` of domain `{domain}`"
    )]
    NotMerged {
        domain: String,
        disk: String,
        waited: Duration,
    },
    #[error("stopped waiting for `{domain}`")]
    Cancelled { domain: String, source: Cancelled },
}

impl Error {
    /// Returns libvirt's code (`virErrorNumber`) if the error is from libvirt.
    pub fn code(&self) -> Option<u32> {
        match self {
            Error::Connect { source, .. } | Error::Call { source, .. } => Some(source.code),
            _ => None,
        }
    }

    /// Returns what the user can do: a sentence without a full stop.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Error::Connect { uri, .. } => connect_hint(uri).into(),
            Error::Silent { .. } => "Check that libvirtd is not stopped".into(),
            Error::Foreign { kind, .. } => {
                format!("Rename one of them, or remove the existing {kind}").into()
            }
            Error::StillRunning { .. } => "Force it off".into(),
            Error::StillSuspended { domain, .. } => {
                format!("Force it off with `pspd down`, or by `virsh destroy {domain}`").into()
            }
            Error::NotMerged { .. } => "Run `pspd up` to continue".into(),
            Error::Call { .. }
            | Error::Report { .. }
            | Error::Unresponsive { .. }
            | Error::Cancelled { .. } => return None,
        })
    }
}

fn connect_hint(uri: &str) -> &'static str {
    if uri.contains("+ssh:") {
        "Check that `ssh` to that host works without a password, and that libvirt is installed on it"
    } else if uri.contains("socket=") {
        "Check that the libvirtd of this socket is running"
    } else if uri.starts_with("qemu:") {
        "Check that libvirtd is running, and that this user is in group `libvirt`"
    } else {
        "Check the URI (see https://libvirt.org/uri.html)"
    }
}

/// An error message of libvirt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (libvirt error {code})")]
pub struct Cause {
    /// A `virErrorNumber`, <https://libvirt.org/html/libvirt-virterror.html#virErrorNumber>.
    pub code: u32,
    pub message: String,
}

impl From<virt::error::Error> for Cause {
    fn from(error: virt::error::Error) -> Cause {
        Cause {
            code: error.code().to_raw(),
            message: error.message().to_owned(),
        }
    }
}

/// Why a description could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Xml(#[from] quick_xml::DeError),
    #[error("`{value}` is not a valid {what}")]
    Value { what: &'static str, value: String },
}

/// The kinds of objects that a deployment owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Domain,
    Network,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Domain => "domain",
            Kind::Network => "network",
        })
    }
}

/// The owner of a foreign object: another deployment, or `None` if it was not defined by pspd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub Option<Ownership>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(ownership) => write!(f, "deployment `{}`", ownership.deployment),
            None => f.write_str("another program"),
        }
    }
}

/// Adds the attempted operation to an error of libvirt.
pub(super) trait Attempt<T> {
    fn attempt(self, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for std::result::Result<T, virt::error::Error> {
    fn attempt(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Call {
            attempt: attempt(),
            source: error.into(),
        })
    }
}

/// Converts the error that an object does not exist to `None`.
pub(super) fn unless_gone<T>(
    result: Result<T, virt::error::Error>,
) -> Result<Option<T>, virt::error::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.code().to_raw() {
            sys::VIR_ERR_NO_DOMAIN | sys::VIR_ERR_NO_NETWORK => Ok(None),
            _ => Err(error),
        },
    }
}
