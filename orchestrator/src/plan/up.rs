//! The plan that makes a spec true.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use super::digest::network_digest;
use super::{Action, Plan, PlanError, domain, down};
use crate::observe::{LabState, Observed};
use crate::spec::{Digest, DomainSpec, Mac, Name, Spec};

pub fn plan(spec: &Spec, observed: &Observed) -> Result<Plan, PlanError> {
    refuse_foreign(spec, observed)?;
    let mut plan = Plan::default();
    if matches!(observed.lab, LabState::Absent | LabState::Stopped) {
        plan.push(
            "lab/start",
            Action::StartLab {
                fresh: observed.lab == LabState::Absent,
            },
            &[],
            "it does not run",
        );
    }
    publish(spec, observed, &mut plan);
    remove_orphans(spec, observed, &mut plan);
    for (name, image) in &observed.images {
        if !image.cached {
            plan.push(
                format!("image/{name}"),
                Action::EnsureImage {
                    image: name.clone(),
                },
                &[],
                "it is not cached",
            );
        }
    }
    roms(spec, observed, &mut plan);
    network(spec, observed, &mut plan);
    let order = in_dependency_order(spec);
    for domain in &order {
        subject(spec, observed, domain, &mut plan).recover();
    }
    for domain in order.iter().rev() {
        subject(spec, observed, domain, &mut plan).stop();
    }
    for domain in order {
        subject(spec, observed, domain, &mut plan).plan()?;
    }
    Ok(plan)
}

fn subject<'a>(
    spec: &'a Spec,
    observed: &'a Observed,
    domain: &'a DomainSpec,
    plan: &'a mut Plan,
) -> domain::Subject<'a> {
    domain::Subject {
        spec,
        observed,
        domain,
        plan,
    }
}

fn refuse_foreign(spec: &Spec, observed: &Observed) -> Result<(), PlanError> {
    let foreign = |owner: &Option<crate::libvirt::Ownership>| {
        owner
            .as_ref()
            .is_none_or(|owner| owner.deployment != spec.name)
    };
    if observed
        .network
        .as_ref()
        .is_some_and(|network| foreign(&network.owner))
    {
        return Err(PlanError::Foreign {
            kind: "network",
            name: spec.network.name.clone(),
        });
    }
    for name in spec.domains.keys() {
        if observed
            .domains
            .get(name.as_str())
            .is_some_and(|domain| foreign(&domain.owner))
        {
            return Err(PlanError::Foreign {
                kind: "domain",
                name: name.to_string(),
            });
        }
    }
    Ok(())
}

/// Ports are taken first: one that is in use should fail before anything boots.
fn publish(spec: &Spec, observed: &Observed, plan: &mut Plan) {
    let wanted: Vec<(&Name, SocketAddr, SocketAddr)> = spec
        .domains
        .values()
        .flat_map(|domain| {
            domain.publish.iter().map(move |one| {
                (
                    &domain.name,
                    one.host,
                    SocketAddr::from((domain.address, one.guest_port)),
                )
            })
        })
        .collect();
    for (host, guest) in &observed.published {
        if !wanted
            .iter()
            .any(|(_, wanted_host, wanted_guest)| (wanted_host, wanted_guest) == (host, guest))
        {
            plan.push(
                format!("unpublish/{host}"),
                Action::Unpublish { host: *host },
                &[],
                "the topology does not publish it",
            );
        }
    }
    for (domain, host, guest) in wanted {
        if observed.published.get(&host) != Some(&guest) {
            let after = ["lab/start".into(), format!("unpublish/{host}")];
            let action = Action::Publish {
                domain: domain.clone(),
                host,
                guest,
            };
            plan.push(
                format!("{domain}/publish/{host}"),
                action,
                &after,
                "it is not published",
            );
        }
    }
}

/// Domains with the same firmware share one ROM.
fn roms(spec: &Spec, observed: &Observed, plan: &mut Plan) {
    for (name, rom) in &observed.roms {
        let id = rom_step(&rom.digest);
        if rom.cached || plan.steps.iter().any(|step| step.id == id) {
            continue;
        }
        let domain = &spec.domains[name];
        let after = domain
            .firmware
            .holds_kernel()
            .then(|| format!("image/{}", domain.image));
        let action = Action::EnsureRom {
            domain: name.clone(),
            digest: rom.digest.clone(),
        };
        plan.push(id, action, after.as_slice(), "it is not cached");
    }
}

/// The id of the step that builds a ROM.
pub(super) fn rom_step(digest: &Digest) -> String {
    format!("rom/{}", digest.short())
}

/// Domains of this deployment that left the topology.
fn remove_orphans(spec: &Spec, observed: &Observed, plan: &mut Plan) {
    for name in down::owned_domains(spec, observed) {
        if !spec.domains.contains_key(&name) {
            down::remove_domain(
                observed,
                &name,
                &["lab/start".into()],
                "it left the topology",
                plan,
            );
        }
    }
    for name in observed
        .disks
        .keys()
        .filter_map(|name| Name::new(name).ok())
    {
        let id = format!("{name}/delete-disk");
        if !spec.domains.contains_key(&name) && !plan.steps.iter().any(|step| step.id == id) {
            plan.push(
                id,
                Action::DeleteDisk { domain: name },
                &[],
                "it left the topology",
            );
        }
    }
}

fn network(spec: &Spec, observed: &Observed, plan: &mut Plan) {
    let digest = network_digest(spec);
    let current = observed.network.as_ref();
    let owner = current.and_then(|network| network.owner.as_ref());
    let same = owner.is_some_and(|owner| owner.digest == digest);
    let hosts = current.is_some_and(|network| network.hosts == hosts(spec));
    let active = current.is_some_and(|network| network.active);
    let mut after = vec!["lab/start".to_owned()];
    if !(same && hosts) {
        let reason = match (current, same) {
            (None, _) => "it is not defined",
            (Some(_), false) => "its addresses or its DNS domain changed",
            (Some(_), true) => "its guests changed",
        };
        // Guests are added and removed live; what else changes holds from a network's start.
        if active && !same {
            plan.push("network/stop", Action::StopNetwork, &after, reason);
            after.push("network/stop".into());
        }
        let action = Action::DefineNetwork {
            digest,
            fresh: current.is_none(),
        };
        plan.push("network/define", action, &after, reason);
    }
    if !(same && active) {
        let reason = if current.is_none() {
            "it is new"
        } else {
            "it is not active"
        };
        plan.push(
            "network/start",
            Action::StartNetwork,
            &["lab/start".into(), "network/define".into()],
            reason,
        );
    }
}

/// The guests that a network gives names and addresses to.
pub(crate) fn hosts(spec: &Spec) -> BTreeSet<(Name, Mac, Ipv4Addr)> {
    spec.domains
        .values()
        .map(|domain| (domain.name.clone(), domain.mac, domain.address))
        .collect()
}

/// Domains so that each comes after those it depends on; by name where that leaves a choice.
pub(crate) fn in_dependency_order(spec: &Spec) -> Vec<&DomainSpec> {
    let mut ordered: Vec<&DomainSpec> = Vec::new();
    let mut waiting: VecDeque<&DomainSpec> = spec.domains.values().collect();
    let mut placed = BTreeSet::new();
    let mut postponed = 0;
    while let Some(domain) = waiting.pop_front() {
        // A cycle is a fault of the topology; should one get here, its members come in name order.
        if domain.depends_on.is_subset(&placed) || postponed > waiting.len() {
            placed.insert(domain.name.clone());
            ordered.push(domain);
            postponed = 0;
        } else {
            postponed += 1;
            waiting.push_back(domain);
        }
    }
    ordered
}
