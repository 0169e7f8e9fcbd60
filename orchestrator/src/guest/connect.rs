//! Connects to a guest and authenticates. The host key is checked before pspd authenticates itself.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pspd_lab::keepalive;
use pspd_model::spec::{Name, SSH_PORT, Spec};
use ssh2::{HostKeyType, MethodType};
use tokio_util::sync::CancellationToken;

use super::Guest;
use super::session::{ANSWER, Session, after};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::identity::Identity;
use crate::reach::Reach;

/// Short, because a guest without a network does not answer: a new connection succeeds sooner than TCP's
/// retransmission.
const DIAL: Duration = Duration::from_millis(700);
const RETRY: Duration = Duration::from_millis(50);
/// The deadline for banner and key exchange; afterwards, connecting is retried.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The stage at which connecting failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no SSH answer from `{domain}` ({address}) within {} s; last error: {cause}", waited.as_secs())]
    NoBanner {
        domain: Name,
        address: SocketAddr,
        waited: Duration,
        cause: String,
    },
    #[error(
        "the host key of `{domain}` ({address}) is not the key that pspd created, so the connection was closed"
    )]
    HostKey { domain: Name, address: SocketAddr },
    #[error("`{domain}` ({address}) rejected the deployment's key: {cause}")]
    Authentication {
        domain: Name,
        address: SocketAddr,
        cause: String,
    },
    #[error("failed to read the host key of `{domain}`: {cause}")]
    OwnKey { domain: Name, cause: String },
    #[error("stopped waiting for `{domain}`")]
    Cancelled { domain: Name, source: Cancelled },
}

impl ConnectError {
    /// Returns what the user can do: a sentence without a full stop.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ConnectError::HostKey { .. } => Some(
                "If you replaced it on purpose, recreate the guest with `pspd down && pspd up`",
            ),
            ConnectError::Authentication { .. } => Some(
                "If that key was lost and created again, recreate the guest with `pspd down && pspd up`, which keeps data \
                 volumes",
            ),
            ConnectError::NoBanner { .. }
            | ConnectError::OwnKey { .. }
            | ConnectError::Cancelled { .. } => None,
        }
    }

    fn cancelled(domain: &Name) -> ConnectError {
        ConnectError::Cancelled {
            domain: domain.clone(),
            source: Cancelled::during("waiting for SSH"),
        }
    }
}

impl Guest {
    /// Waits for the SSH server, checks its host key and authenticates. Blocks for `deadline` at most.
    pub fn connect(
        reach: &Reach,
        spec: &Spec,
        domain: &Name,
        identity: &Identity,
        deadline: Duration,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Result<Guest, ConnectError> {
        let address = SocketAddr::from((spec.domains[domain].address, SSH_PORT));
        Guest::connect_to(reach, address, domain, identity, deadline, scope, cancel)
    }

    /// [`Guest::connect`] to another address.
    pub fn connect_to(
        reach: &Reach,
        address: SocketAddr,
        domain: &Name,
        identity: &Identity,
        deadline: Duration,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Result<Guest, ConnectError> {
        let own_key = |error: &dyn std::fmt::Display| ConnectError::OwnKey {
            domain: domain.clone(),
            cause: error.to_string(),
        };
        let pinned = identity.host_key(domain).map_err(|error| own_key(&error))?;
        let pinned = pinned
            .public_key()
            .to_bytes()
            .map_err(|error| own_key(&error))?;
        let began = Instant::now();
        let session = loop {
            let left = deadline.saturating_sub(began.elapsed());
            match handshake(reach, address, left, cancel) {
                Ok(_) if cancel.is_cancelled() => {
                    return Err(ConnectError::cancelled(domain));
                }
                Ok(session) => break session,
                Err(error) => {
                    if cancel.is_cancelled() {
                        return Err(ConnectError::cancelled(domain));
                    }
                    if began.elapsed() >= deadline {
                        let cause = error.to_string();
                        return Err(ConnectError::NoBanner {
                            domain: domain.clone(),
                            address,
                            waited: deadline,
                            cause,
                        });
                    }
                    std::thread::sleep(RETRY);
                }
            }
        };
        match session.inner.host_key() {
            Some((key, HostKeyType::Ed25519)) if key == pinned => {}
            _ => {
                return Err(ConnectError::HostKey {
                    domain: domain.clone(),
                    address,
                });
            }
        }
        scope.stage("authenticating");
        authenticate(&session, identity).map_err(|cause| match cause {
            _ if cancel.is_cancelled() => ConnectError::cancelled(domain),
            cause => ConnectError::Authentication {
                domain: domain.clone(),
                address,
                cause,
            },
        })?;
        Ok(Guest { session })
    }
}

/// TCP, banner and key exchange.
fn handshake(
    reach: &Reach,
    address: SocketAddr,
    left: Duration,
    cancel: &CancellationToken,
) -> io::Result<Session> {
    let stream = reach.dial_blocking(address, DIAL.min(left.max(RETRY)))?;
    stream.set_nodelay(true)?;
    // Not libssh2's keepalive, with which a long silent wait fails as timed out.
    keepalive::enable(&stream)?;
    let session = Session::new(stream, cancel)?;
    let mut inner = session.inner.clone();
    inner.method_pref(MethodType::HostKey, "ssh-ed25519")?;
    // Ciphers with CPU instructions; pspd's own guests offer all of them.
    for direction in [MethodType::CryptCs, MethodType::CryptSc] {
        inner.method_pref(
            direction,
            "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr",
        )?;
    }
    let limit = left.clamp(Duration::from_secs(1), HANDSHAKE);
    session.complete(after(limit), || inner.handshake())?;
    Ok(session)
}

fn authenticate(session: &Session, identity: &Identity) -> Result<(), String> {
    let key = identity.ssh_key();
    let private = key
        .to_openssh(ssh_key::LineEnding::LF)
        .map_err(|error| error.to_string())?;
    let public = key
        .public_key()
        .to_openssh()
        .map_err(|error| error.to_string())?;
    let login = || {
        let inner = &session.inner;
        inner.userauth_pubkey_memory("root", Some(&public), &private, None)
    };
    session
        .complete(after(ANSWER), login)
        .map_err(|error| error.to_string())
}
