//! Asks services how they are, by `grpc.health.v1` over mTLS.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::reach::Reach;
use crate::spec::{Name, Spec};

/// What one health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Serving,
    NotServing,
    /// No answer, with the cause.
    Unreachable(String),
}

/// Asks once.
pub async fn check(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    timeout: Duration,
) -> Health {
    let _ = (reach, spec, domain, identity, timeout);
    unimplemented!()
}

/// Waits until the service is SERVING; the error carries what was seen last.
pub async fn serving(
    reach: &Reach,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    deadline: Duration,
    cancel: &CancellationToken,
) -> Result<(), Health> {
    let _ = (reach, spec, domain, identity, deadline, cancel);
    unimplemented!()
}
