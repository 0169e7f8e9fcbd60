//! The network's part of a plan. Its table of guests says who has which address: no entry leaves it while the guest runs,
//! so that an address has one holder at a time, and an interrupted run leaves a table that is true.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::builder::PlanBuilder;
use super::digest::network_digest;
use super::{Action, DomainStep, StepId};
use crate::definition::{NetworkDefinition, NetworkHost, Ownership};
use crate::observed::Observed;
use crate::spec::{Connection, Digest, Mac, Name, Spec};

/// Why something starts with the host, or no longer does.
pub(super) const AUTOSTART: &str = "the topology's `autostart`";

/// What is to be done to the network, each with its reason.
pub(super) struct Change {
    digest: Digest,
    /// Guests are added and removed live; any other change needs a restart of the network.
    pub(super) stops: Option<&'static str>,
    defines: Option<&'static str>,
    starts: Option<&'static str>,
}

pub(super) fn change(spec: &Spec, observed: &Observed) -> Change {
    let digest = network_digest(spec);
    let current = observed.network.as_ref();
    let owner = current.and_then(|network| network.owner.as_ref());
    let same = owner.is_some_and(|owner| owner.digest == digest);
    let same_hosts = current.is_some_and(|network| network.hosts == hosts(spec));
    let active = current.is_some_and(|network| network.active);
    let defines = match (current, same, same_hosts) {
        (None, ..) => Some("it is not defined"),
        (Some(_), false, _) => Some("its addresses or its DNS domain changed"),
        (Some(_), true, false) => Some("its guests changed"),
        (Some(_), true, true) => None,
    };
    Change {
        digest,
        stops: defines.filter(|_| active && !same),
        defines,
        starts: match current {
            None => Some("it is new"),
            Some(_) if same && active => None,
            Some(_) => Some("it is not active"),
        },
    }
}

/// Everything that is planned before stops guests that have to be off.
pub(super) fn plan(spec: &Spec, observed: &Observed, change: &Change, plan: &mut PlanBuilder) {
    let stop = |name: &Name| StepId::of(name, DomainStep::Stop);
    if let Some(reason) = change.stops {
        plan.add(Action::StopNetwork, reason)
            .if_planned(StepId::StartLab)
            .if_any_planned(observed.domains.keys().map(stop));
    }
    if let Some(reason) = change.defines {
        let action = Action::DefineNetwork {
            digest: change.digest.clone(),
            fresh: observed.network.is_none(),
            definition: definition(
                spec,
                Ownership {
                    deployment: spec.name.clone(),
                    digest: change.digest.clone(),
                },
            ),
        };
        let unpublished = observed.published.keys().copied();
        plan.add(action, reason)
            .if_planned(StepId::StartLab)
            .if_any_planned(leaving(spec, observed).into_iter().map(stop))
            .if_any_planned(unpublished.map(StepId::Unpublish))
            .if_planned(StepId::StopNetwork);
    }
    if let Some(reason) = change.starts {
        plan.add(Action::StartNetwork, reason)
            .if_planned(StepId::StartLab)
            .if_planned(StepId::DefineNetwork);
    } else if observed
        .network
        .as_ref()
        .is_some_and(|network| !network.dns)
    {
        plan.add(Action::RestoreDns, "it does not answer")
            .if_planned(StepId::DefineNetwork);
    }
    autostart(spec, observed, plan);
}

/// A lab's libvirt starts nothing on its own: what starts with the host is then the lab.
fn autostart(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    let network = observed.network.as_ref();
    let (wanted, now) = (spec.autostart, network.is_some_and(|it| it.autostart));
    if spec.connection != Connection::Lab && wanted != now {
        let action = Action::SetNetworkAutostart { autostart: wanted };
        plan.add(action, AUTOSTART)
            .if_planned(StepId::DefineNetwork);
    }
}

/// The domains whose entries leave the table. Without a table, any domain may have any address.
fn leaving<'a>(spec: &Spec, observed: &'a Observed) -> BTreeSet<&'a Name> {
    let Some(network) = &observed.network else {
        return observed.domains.keys().collect();
    };
    let stay = hosts(spec);
    let leaving = network.hosts.iter().filter(|host| !stay.contains(host));
    leaving.map(|(name, ..)| name).collect()
}

fn definition(spec: &Spec, ownership: Ownership) -> NetworkDefinition {
    let hosts = spec.all().map(|domain| NetworkHost {
        name: domain.name.clone(),
        mac: domain.mac,
        address: domain.address,
    });
    NetworkDefinition {
        name: spec.network.name.clone(),
        ownership,
        cidr: spec.network.cidr,
        gateway: spec.network.gateway,
        domain: spec.network.domain.clone(),
        hosts: hosts.collect(),
    }
}

/// The guests that a network gives names and addresses to.
fn hosts(spec: &Spec) -> BTreeSet<(Name, Mac, Ipv4Addr)> {
    spec.all()
        .map(|domain| (domain.name.clone(), domain.mac, domain.address))
        .collect()
}
