//! Which callers are allowed: the names on their certificates, checked against a table from the environment.
//!
//! ```text
//! PSPD_CALLERS=ai-server,web-server    who may call this service; pspd derives it from the topology
//! DATABASE_OWNERS=ai-models=ai-server  resources of this service that only one caller may use
//! ```
//! The deployment's administrator, whose certificate names `pspd`, may do everything. Every certificate of the
//! deployment may call health; reflection is a call like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::error::Problem;
use crate::established::Peer;
use crate::trace;

/// The name on the certificates of pspd itself and of `pspd credentials`.
pub const ADMINISTRATOR: &str = "pspd";

/// ErrorInfo's metadata key of the caller's name.
const CALLER: &str = "caller";
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The callers that a service allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// Everyone: without TLS there are no names. Only for the insecure loopback mode of tests and benchmarks.
    Anyone,
    /// These, and the administrator.
    Named(BTreeSet<String>),
}

impl Callers {
    /// Reads names that are separated by commas.
    pub fn parse(text: &str) -> Self {
        let names = text.split(',').map(str::trim);
        Self::Named(
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn admit(&self, caller: Option<&str>, path: &str) -> Result<(), Status> {
        let Self::Named(names) = self else {
            return Ok(());
        };
        let known = caller.is_some_and(|name| name == ADMINISTRATOR || names.contains(name));
        if known || path.starts_with(HEALTH) {
            return Ok(());
        }
        let caller = caller.unwrap_or("unnamed");
        let message = format!("`{caller}` may not call `{}`", trace::current().service);
        let problem = Problem::new(Code::PermissionDenied, "CALLER_NOT_ALLOWED", message);
        Err(problem.with(CALLER, caller).into())
    }
}

/// Resources that belong to one caller each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners(BTreeMap<String, String>);

impl Owners {
    /// Reads pairs `RESOURCE=CALLER` that are separated by commas.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pairs = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| match pair.split_once('=') {
            Some((resource, owner)) if !resource.is_empty() && !owner.is_empty() => {
                Ok((resource.to_owned(), owner.to_owned()))
            }
            _ => Err(format!(
                "has `{pair}`, which is not of the form `RESOURCE=CALLER`"
            )),
        });
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// Rejects a resource that belongs to another caller; `kind` says what it is, such as `collection`.
    pub fn admit(&self, kind: &str, resource: &str) -> Result<(), Status> {
        let Some(owner) = self.0.get(resource) else {
            return Ok(());
        };
        let context = trace::current();
        let Some(caller) = &context.caller else {
            // No certificate, so no names: the insecure loopback mode, in which everyone may call.
            return Ok(());
        };
        if caller == ADMINISTRATOR || caller == owner {
            return Ok(());
        }
        let message =
            format!("the {kind} `{resource}` belongs to `{owner}`; `{caller}` may not use it");
        let problem = Problem::new(Code::PermissionDenied, "RESOURCE_OWNED", message);
        Err(problem.with(CALLER, caller).with(kind, resource).into())
    }
}

/// The name on the caller's certificate.
pub(crate) fn caller<B>(request: &Request<B>) -> Option<String> {
    let peer: &Peer = request.extensions().get()?;
    peer.name.as_deref().map(str::to_owned)
}

/// Passes on the calls that the table allows.
#[derive(Debug, Clone)]
pub(crate) struct Admit {
    pub(crate) callers: Arc<Callers>,
}

impl<S> Layer<S> for Admit {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        Admitting {
            callers: self.callers.clone(),
            inner,
        }
    }
}

/// The guarded routes.
#[derive(Debug, Clone)]
pub(crate) struct Admitting<S> {
    callers: Arc<Callers>,
    inner: S,
}

impl<S, Q> Service<Request<Q>> for Admitting<S>
where
    S: Service<Request<Q>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(poller)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let context = trace::current();
        let caller = context.caller.as_deref();
        match self.callers.admit(caller, request.uri().path()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refused) => Either::Right(ready(Ok(refused.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrator_and_listed_callers_may_call() {
        let callers = Callers::parse("ai-server, web-server,");
        let (read, health) = (
            "/database.DatabaseService/Read",
            "/grpc.health.v1.Health/Check",
        );
        let table = [
            (Some("web-server"), read, true),
            (Some("ai-server"), read, true),
            (Some("pspd"), read, true),
            (Some("other"), read, false),
            (None, read, false),
            (Some("other"), health, true),
            (
                Some("other"),
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                false,
            ),
        ];
        for (caller, path, allowed) in table {
            assert_eq!(
                callers.admit(caller, path).is_ok(),
                allowed,
                "{caller:?} {path}"
            );
        }
        let nobody = Callers::parse("");
        assert!(nobody.admit(Some("web-server"), read).is_err());
        assert!(nobody.admit(Some("pspd"), read).is_ok());
    }

    #[test]
    fn an_owned_resource_is_for_its_owner_only() {
        let owners = Owners::parse("ai-models=ai-server").unwrap();
        let as_caller = |caller: Option<&str>, resource: &str| {
            let mut context = trace::Context::begin("database".into(), None);
            context.caller = caller.map(Into::into);
            Arc::new(context).enter(|| owners.admit("collection", resource))
        };
        assert!(as_caller(Some("ai-server"), "ai-models").is_ok());
        assert!(as_caller(Some("pspd"), "ai-models").is_ok());
        assert!(as_caller(Some("web-server"), "documents").is_ok());
        let refused = as_caller(Some("web-server"), "ai-models").unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(crate::error::describe(&refused).reason, "RESOURCE_OWNED");
        assert_eq!(
            Owners::parse("ai-models").unwrap_err(),
            "has `ai-models`, which is not of the form `RESOURCE=CALLER`"
        );
    }
}
