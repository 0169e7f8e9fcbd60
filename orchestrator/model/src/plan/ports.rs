//! The published ports in a plan: one that moves never leads to the guest of another domain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use super::builder::PlanBuilder;
use super::{Action, StepId};
use crate::observed::Observed;
use crate::spec::{Name, Spec};

/// Closes what is not wanted, and publishes what can be: a port that is in use should fail before anything boots. Returns
/// the ports of guests whose addresses other domains still have.
pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) -> Vec<Action> {
    let wanted: Vec<(&Name, SocketAddr, SocketAddr)> = spec
        .domains
        .values()
        .flat_map(|domain| {
            domain.publish.iter().map(move |publish| {
                let guest = SocketAddr::from((domain.address, publish.guest_port));
                (&domain.name, publish.host, guest)
            })
        })
        .collect();
    let pairs: BTreeSet<(SocketAddr, SocketAddr)> = wanted
        .iter()
        .map(|(_, host, guest)| (*host, *guest))
        .collect();
    for (host, guest) in &observed.published {
        if !pairs.contains(&(*host, *guest)) {
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
    for (name, host, guest) in wanted {
        if observed.published.get(&host) == Some(&guest) {
            continue;
        }
        let holder = holders.get(&spec.domains[name].address);
        let action = Action::Publish {
            domain: name.clone(),
            host,
            guest,
        };
        if holder.is_some_and(|holder| *holder != name) {
            moving.push(action);
        } else {
            publish(action, plan);
        }
    }
    moving
}

/// Publishes ports once the table of guests has their domains: after the earlier holders of their addresses stopped.
pub(super) fn publish_moving(moving: Vec<Action>, plan: &mut PlanBuilder) {
    for action in moving {
        publish(action, plan);
    }
}

fn publish(action: Action, plan: &mut PlanBuilder) {
    let Action::Publish { host, .. } = action else {
        return;
    };
    plan.add(action, "it is not published")
        .if_planned(StepId::StartLab)
        .if_planned(StepId::Unpublish(host))
        .if_planned(StepId::DefineNetwork);
}
