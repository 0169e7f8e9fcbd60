//! A booted guest: one SSH session, and what is done over it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::event::Scope;
use crate::identity::Identity;
use crate::reach::Reach;
use crate::spec::{Digest, Name, Spec};

/// An authenticated session with a guest whose host key is the pinned one. Its methods block.
pub struct Guest {}

/// What connecting waited for when it failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no SSH banner from {address} within {waited:?}; last cause: {cause}")]
    NoBanner {
        address: SocketAddr,
        waited: Duration,
        cause: String,
    },
    #[error("the host key of {address} is not the one that pspd gave to it")]
    HostKey { address: SocketAddr },
    #[error("{address} refused the deployment's key: {cause}")]
    Authentication { address: SocketAddr, cause: String },
    #[error("cancelled")]
    Cancelled,
}

impl Guest {
    /// Waits for the SSH banner, checks the host key, then authenticates. Blocks.
    pub fn connect(
        reach: &Reach,
        spec: &Spec,
        domain: &Name,
        identity: &Identity,
        deadline: Duration,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Result<Guest, ConnectError> {
        let _ = (reach, spec, domain, identity, deadline, scope, cancel);
        unimplemented!()
    }

    /// Makes `release` the current one: copies what differs, switches, restarts where something changed.
    pub fn deploy(
        &self,
        release: &Release,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Deployed> {
        let _ = (release, scope, cancel);
        unimplemented!()
    }

    pub fn push(
        &self,
        release: &Release,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> anyhow::Result<u64> {
        let _ = (release, scope, cancel);
        unimplemented!()
    }

    pub fn activate(
        &self,
        release: &Release,
        certificate: &crate::identity::Certificate,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Deployed> {
        let _ = (release, certificate, scope, cancel);
        unimplemented!()
    }

    /// Switches back to the release before and restarts it; says which it is now, if there was one.
    pub fn roll_back(&self, service: &Name) -> anyhow::Result<Option<Digest>> {
        let _ = service;
        unimplemented!()
    }

    /// The last lines that the service logged.
    pub fn last_log_lines(&self, service: &Name, count: usize) -> anyhow::Result<Vec<String>> {
        let _ = (service, count);
        unimplemented!()
    }
}

/// One service's files at one content digest.
#[derive(Clone, Debug)]
pub struct Release {
    pub service: Name,
    pub digest: Digest,
    pub files: Vec<ReleaseFile>,
}

#[derive(Clone, Debug)]
pub struct ReleaseFile {
    /// In the guest: absolute, or relative to the release's folder.
    pub path: PathBuf,
    pub mode: u32,
    pub digest: Digest,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Host(PathBuf),
    Text(String),
}

/// What a deployment did.
#[derive(Clone, Debug)]
pub struct Deployed {
    pub copied_bytes: u64,
    pub restarted: bool,
    pub previous: Option<Digest>,
}

impl Release {
    /// Reads and digests the service's files; the release's digest covers unit, arguments and environment too.
    pub fn assemble(spec: &Spec, domain: &Name) -> anyhow::Result<Option<Release>> {
        let _ = (spec, domain);
        unimplemented!()
    }
}
