//! The plan that makes a spec true.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use super::{Action, Plan, PlanError, down};
use crate::observe::{DomainState, LabState, Observed};
use crate::spec::{Digest, DomainSpec, Mac, Name, Size, Spec, VolumeSpec};

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
    network(spec, observed, &mut plan);
    for domain in in_dependency_order(spec) {
        Subject {
            spec,
            observed,
            domain,
            plan: &mut plan,
        }
        .plan()?;
    }
    Ok(plan)
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

/// What a network's definition is made from, but for its guests, which libvirt itself tells.
pub(crate) fn network_digest(spec: &Spec) -> Digest {
    digest_of(&spec.network)
}

/// What a domain's definition is made from, but for memory and vCPUs, which libvirt itself tells.
pub(crate) fn domain_digest(spec: &Spec, domain: &DomainSpec, image: &Digest) -> Digest {
    let definition = (
        &domain.name,
        &domain.firmware,
        domain.boot,
        domain.machine,
        &domain.volumes,
        domain.address,
        domain.mac,
    );
    let network = (&spec.network.name, spec.network.cidr, &spec.network.domain);
    digest_of(&(definition, network, image, spec.accel))
}

fn digest_of(value: &impl serde::Serialize) -> Digest {
    // Plain data of this module's own choosing: serialising it cannot fail.
    Digest::of(&serde_json::to_vec(value).expect("plain data is serialisable"))
}

/// Domains so that each comes after those it depends on; by name where that leaves a choice.
fn in_dependency_order(spec: &Spec) -> Vec<&DomainSpec> {
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

/// One domain's part of the plan.
struct Subject<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
    domain: &'a DomainSpec,
    plan: &'a mut Plan,
}

impl Subject<'_> {
    fn plan(mut self) -> Result<(), PlanError> {
        let image = &self.observed.images[&self.domain.image].digest;
        let digest = domain_digest(self.spec, self.domain, image);
        let state = self.observed.domains.get(self.domain.name.as_str());
        self.stop(state, &digest);
        let fresh_disk = self.disks()?;
        self.define(state, &digest);
        let starts = self.start(state);
        self.service(starts, fresh_disk);
        Ok(())
    }

    fn id(&self, step: &str) -> String {
        format!("{}/{step}", self.domain.name)
    }

    fn push(&mut self, step: &str, action: Action, after: &[String], reason: impl Into<String>) {
        let id = self.id(step);
        self.plan.push(id, action, after, reason);
    }

    fn has(&self, id: &str) -> bool {
        self.plan.steps.iter().any(|step| step.id == id)
    }

    /// Whether the system disk is an overlay of another image than the topology's.
    fn image_changed(&self) -> bool {
        let wanted = &self.observed.images[&self.domain.image].digest;
        self.observed
            .disks
            .get(self.domain.name.as_str())
            .is_some_and(|disk| disk.image.as_ref() != Some(wanted))
    }

    fn grows(&self) -> bool {
        let domain = self.domain;
        let system = self
            .observed
            .disks
            .get(domain.name.as_str())
            .is_some_and(|disk| disk.size < domain.system_disk);
        let volume = |volume: &VolumeSpec| {
            self.observed
                .volumes
                .get(&volume_file(&domain.name, &volume.name))
                .is_some_and(|have| *have < volume.size)
        };
        system || domain.volumes.iter().any(volume)
    }

    /// Shuts a running domain down where a change needs that.
    fn stop(&mut self, state: Option<&DomainState>, digest: &Digest) {
        let Some(state) = state.filter(|state| state.running) else {
            return;
        };
        let network = self.observed.network.as_ref();
        let reason = if self.image_changed() {
            "its image changed"
        } else if !self.observed.disks.contains_key(self.domain.name.as_str()) {
            "its system disk is gone"
        } else if network.is_none_or(|network| !network.active) {
            "its network is gone"
        } else if state
            .owner
            .as_ref()
            .is_some_and(|owner| owner.digest != *digest)
        {
            "its definition changed"
        } else if self.has("network/stop") {
            "the network changes"
        } else if self.grows() {
            "a disk of it grows"
        } else {
            return;
        };
        self.push(
            "stop",
            Action::Stop {
                domain: self.domain.name.clone(),
            },
            &["lab/start".into()],
            reason,
        );
    }

    /// Makes, grows or replaces the disks; says whether the system disk is a new one.
    fn disks(&mut self) -> Result<bool, PlanError> {
        let name = &self.domain.name;
        let image = format!("image/{}", self.domain.image);
        let have = self.observed.disks.get(name.as_str()).map(|disk| disk.size);
        let replaced = self.image_changed();
        if replaced {
            let action = Action::DeleteDisk {
                domain: name.clone(),
            };
            self.push(
                "delete-disk",
                action,
                &[self.id("stop"), image.clone()],
                "its image changed",
            );
        }
        let fresh = have.is_none() || replaced;
        match have {
            Some(have) if !replaced => {
                let want = self.domain.system_disk;
                if grows(name.as_str(), have, want)? {
                    let action = Action::GrowDisk {
                        domain: name.clone(),
                        size: want,
                    };
                    self.push(
                        "grow-disk",
                        action,
                        &[self.id("stop")],
                        format!("it is {have}"),
                    );
                }
            }
            _ => {
                let action = Action::CreateDisk {
                    domain: name.clone(),
                    image: self.domain.image.clone(),
                    size: self.domain.system_disk,
                };
                let reason = if replaced {
                    "its image changed"
                } else {
                    "it is not there"
                };
                self.push("disk", action, &[image, self.id("delete-disk")], reason);
            }
        }
        self.volumes()?;
        Ok(fresh)
    }

    fn volumes(&mut self) -> Result<(), PlanError> {
        for volume in &self.domain.volumes {
            let domain = self.domain.name.clone();
            let file = volume_file(&domain, &volume.name);
            let step = format!("volume/{}", volume.name);
            match self.observed.volumes.get(&file) {
                None => self.push(
                    &step,
                    Action::CreateVolume {
                        domain,
                        file,
                        size: volume.size,
                    },
                    &[],
                    "it is not there",
                ),
                Some(have) if grows(&file, *have, volume.size)? => {
                    let action = Action::GrowVolume {
                        domain,
                        file,
                        size: volume.size,
                    };
                    self.push(&step, action, &[self.id("stop")], format!("it is {have}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn define(&mut self, state: Option<&DomainState>, digest: &Digest) {
        let domain = self.domain;
        let current = state
            .and_then(|state| state.owner.as_ref())
            .is_some_and(|owner| owner.digest == *digest);
        if !current {
            let action = Action::Define {
                domain: domain.name.clone(),
                digest: digest.clone(),
                // A lab that does not run may have a definition of an earlier run.
                fresh: state.is_none() && self.observed.lab != LabState::Stopped,
            };
            let mut after = vec![
                "lab/start".into(),
                "network/define".into(),
                format!("image/{}", domain.image),
                self.id("stop"),
                self.id("disk"),
            ];
            after.extend(
                domain
                    .volumes
                    .iter()
                    .map(|volume| self.id(&format!("volume/{}", volume.name))),
            );
            self.push(
                "define",
                action,
                &after,
                if state.is_some() {
                    "its definition changed"
                } else {
                    "it is not defined"
                },
            );
            return;
        }
        let Some(state) = state else { return };
        if (state.memory, state.vcpus) != (domain.memory, domain.vcpus) {
            let action = Action::Resize {
                domain: domain.name.clone(),
                memory: domain.memory,
                vcpus: domain.vcpus,
            };
            let reason = format!(
                "it has {} of {} and {} of {} vCPUs",
                state.memory.current,
                state.memory.maximum,
                state.vcpus.current,
                state.vcpus.maximum
            );
            self.push(
                "resize",
                action,
                &["lab/start".into(), self.id("stop")],
                reason,
            );
            if state.running
                && (state.memory.maximum, state.vcpus.maximum)
                    != (domain.memory.maximum, domain.vcpus.maximum)
            {
                self.plan.notes.push(format!(
                    "`{}` takes its new maximum at its next start",
                    domain.name
                ));
            }
        }
    }

    /// Starts the domain where it does not run; says whether it does.
    fn start(&mut self, state: Option<&DomainState>) -> bool {
        let stopped = self.has(&self.id("stop"));
        if state.is_some_and(|state| state.running) && !stopped {
            return false;
        }
        let mut after = vec!["lab/start".into(), "network/start".into()];
        for step in ["disk", "grow-disk", "define", "resize", "stop"] {
            after.push(self.id(step));
        }
        for volume in &self.domain.volumes {
            after.push(self.id(&format!("volume/{}", volume.name)));
        }
        let reason = if stopped {
            "it was shut down for the change"
        } else {
            "it does not run"
        };
        self.push(
            "start",
            Action::Start {
                domain: self.domain.name.clone(),
            },
            &after,
            reason,
        );
        true
    }

    /// Deploys what differs, and waits until a service is healthy that starts or is not.
    fn service(&mut self, starts: bool, fresh_disk: bool) {
        let domain = self.domain;
        let name = &domain.name;
        let Some(release) = self.observed.releases.get(name).cloned() else {
            if starts {
                self.push(
                    "reach",
                    Action::Reach {
                        domain: name.clone(),
                    },
                    &[self.id("start")],
                    "it starts",
                );
            }
            return;
        };
        let deployed = if fresh_disk {
            None
        } else {
            self.observed.deployed.get(name)
        };
        let serving = self.observed.serving.contains(name);
        let reason = match deployed {
            None => "nothing is deployed".to_owned(),
            Some(deployed) if *deployed != release => {
                format!("the release {} is deployed", deployed.short())
            }
            Some(_) if starts => "it starts".to_owned(),
            Some(_) if !serving => "it is not SERVING".to_owned(),
            Some(_) => return,
        };
        self.push(
            "reach",
            Action::Reach {
                domain: name.clone(),
            },
            &[self.id("start")],
            reason.clone(),
        );
        self.push(
            "push",
            Action::Push {
                domain: name.clone(),
                release: release.clone(),
            },
            &[self.id("reach")],
            reason.clone(),
        );
        let mut after = vec![self.id("push")];
        after.extend(
            domain
                .depends_on
                .iter()
                .map(|other| format!("{other}/healthy")),
        );
        self.push(
            "activate",
            Action::Activate {
                domain: name.clone(),
                release: release.clone(),
            },
            &after,
            reason.clone(),
        );
        self.push(
            "healthy",
            Action::Healthy {
                domain: name.clone(),
                release,
            },
            &[self.id("activate"), "lab/start".into()],
            reason,
        );
    }
}

fn grows(disk: &str, have: Size, want: Size) -> Result<bool, PlanError> {
    if have > want {
        return Err(PlanError::Shrinks {
            disk: disk.to_owned(),
            have,
            want,
        });
    }
    Ok(have < want)
}

/// The file of a data volume in the deployment's volumes folder.
pub(crate) fn volume_file(domain: &Name, volume: &Name) -> String {
    format!("{domain}-{volume}.qcow2")
}
