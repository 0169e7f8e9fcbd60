//! What can go wrong with libvirt, with its own code and message.

use std::fmt;
use std::time::Duration;

use crate::cancelled::Cancelled;
use crate::definition::Ownership;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation on libvirt; the cause is in the chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to libvirt at `{uri}`; {hint}")]
    Connect {
        uri: String,
        hint: &'static str,
        source: Cause,
    },
    #[error("cannot {attempt}")]
    Call { attempt: String, source: Cause },
    #[error(
        "{kind} `{name}` belongs to {owner}: pspd does not touch it; rename one of the two or remove that {kind}"
    )]
    Foreign {
        kind: Kind,
        name: String,
        owner: Owner,
    },
    #[error("cannot read what libvirt reports of {subject}")]
    Report { subject: String, source: Malformed },
    #[error(
        "domain `{domain}` still runs {waited:?} after its power button was pressed; the guest ignores it or is not up yet, force it off"
    )]
    StillRunning { domain: String, waited: Duration },
    #[error(
        "the disk `{disk}` of domain `{domain}` was not merged with its snapshot within {waited:?}; `pspd up` goes on with it"
    )]
    NotMerged {
        domain: String,
        disk: String,
        waited: Duration,
    },
    #[error("domain `{domain}` was not waited for")]
    Cancelled { domain: String, source: Cancelled },
}

impl Error {
    /// libvirt's code (`virErrorNumber`), where libvirt was the one that refused.
    pub fn code(&self) -> Option<u32> {
        match self {
            Error::Connect { source, .. } | Error::Call { source, .. } => Some(source.code),
            _ => None,
        }
    }
}

/// libvirt's own words.
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

/// The kinds of object that a deployment owns.
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

/// Whose a foreign object is: another deployment's, or nobody's that pspd knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub Option<Ownership>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(ownership) => write!(f, "deployment `{}`", ownership.deployment),
            None => f.write_str("no deployment"),
        }
    }
}

/// Adds what was attempted to libvirt's answer.
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
