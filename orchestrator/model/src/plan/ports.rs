//! The published ports in a plan: one that moves never leads to the guest of another domain.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::builder::PlanBuilder;
use super::{Action, StepId};
use crate::observed::{CertificateOwner, FrontState, Observed};
use crate::publish::{Front, Publish, Target};
use crate::spec::{Digest, DomainSpec, Name, Spec};

/// Closes what is not wanted, and publishes what can be: a port that is in use should fail before anything boots. Returns
/// the ports of guests whose addresses other domains still have.
pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) -> Vec<Action> {
    let wanted: BTreeMap<SocketAddr, Wanted> = spec
        .domains
        .values()
        .flat_map(|domain| {
            domain
                .publish
                .iter()
                .map(|it| (it.host, Wanted::of(domain, it)))
        })
        .collect();
    for (host, guest) in &observed.published {
        let is_front = observed.fronts.contains_key(host);
        let kept = wanted.get(host).is_some_and(|wanted| {
            wanted.to.guest == *guest && wanted.to.front.is_some() == is_front
        });
        if !kept {
            plan.add(
                Action::Unpublish { host: *host },
                "the topology does not publish it",
            );
        }
    }
    // A front whose program does not run is not published, and still has its address.
    let silent = observed.fronts.keys();
    for host in silent.filter(|host| !observed.published.contains_key(host)) {
        let wanted = wanted.get(host).and_then(|wanted| wanted.to.front.as_ref());
        if wanted.is_none() {
            plan.add(
                Action::Unpublish { host: *host },
                "the topology does not publish it",
            );
        }
    }
    let hosts = observed.network.iter().flat_map(|network| &network.hosts);
    let holders: BTreeMap<Ipv4Addr, &Name> =
        hosts.map(|(name, _, address)| (*address, name)).collect();
    let mut moving = Vec::new();
    for (host, wanted) in wanted {
        let name = wanted.domain;
        let published = observed.published.contains_key(&host);
        if published && !plan.has(&StepId::Unpublish(host)) {
            wanted.change(host, observed, plan);
            continue;
        }
        let holder = holders.get(&spec.domains[name].address);
        let action = Action::Publish {
            domain: name.clone(),
            host,
            to: wanted.to,
        };
        if holder.is_some_and(|holder| *holder != name) {
            moving.push(action);
        } else {
            publish(action, plan);
        }
    }
    moving
}

/// What an address of the host should lead to.
struct Wanted<'a> {
    domain: &'a Name,
    to: Target,
}

impl<'a> Wanted<'a> {
    fn of(domain: &'a DomainSpec, publish: &Publish) -> Wanted<'a> {
        Wanted {
            domain: &domain.name,
            to: publish.target(domain.address),
        }
    }

    /// Changes a front that runs, and keeps its address open.
    fn change(&self, host: SocketAddr, observed: &Observed, plan: &mut PlanBuilder) {
        let (Some(front), Some(runs)) = (&self.to.front, observed.fronts.get(&host)) else {
            return;
        };
        let renew = StepId::RenewCertificate(CertificateOwner::Front(host));
        let reason = match changed(front, runs, observed.front_certificates.get(&host)) {
            None if !plan.has(&renew) => return,
            None => "its certificate is renewed",
            Some(reason) => reason,
        };
        let action = Action::ChangeFront {
            domain: self.domain.clone(),
            host,
            to: self.to.clone(),
        };
        plan.add(action, reason)
            .if_planned(StepId::CreateKeys)
            .if_planned(renew);
    }
}

/// What differs between a front that is wanted and the one that runs.
fn changed(front: &Front, runs: &FrontState, certificate: Option<&Digest>) -> Option<&'static str> {
    if front.hosts != runs.hosts {
        return Some("its hosts changed");
    }
    let current = match front.tls {
        Some(_) => certificate.is_some() && runs.certificate.as_ref() == certificate,
        None => runs.certificate.is_none(),
    };
    (!current).then_some("its certificate changed")
}

/// Publishes ports once the table of guests has their domains: after the earlier holders of their addresses stopped.
pub(super) fn publish_moving(moving: Vec<Action>, plan: &mut PlanBuilder) {
    for action in moving {
        publish(action, plan);
    }
}

fn publish(action: Action, plan: &mut PlanBuilder) {
    let Action::Publish { host, to, .. } = &action else {
        return;
    };
    let (host, is_front) = (*host, to.front.is_some());
    let edges = plan.add(action, "it is not published");
    let edges = edges
        .if_planned(StepId::StartLab)
        .if_planned(StepId::Unpublish(host))
        .if_planned(StepId::DefineNetwork);
    if is_front {
        edges
            .if_planned(StepId::CreateKeys)
            .if_planned(StepId::RenewCertificate(CertificateOwner::Front(host)));
    }
}
