//! One domain's part of the plan: its disks, its definition, its power and its service.

use super::digest::domain_digest;
use super::up::rom_step;
use super::{Action, Plan, PlanError};
use crate::observe::{DomainState, LabState, Observed};
use crate::spec::{Digest, DomainSpec, Name, Size, Spec, VolumeSpec};

/// One domain's part of the plan.
pub(super) struct Subject<'a> {
    pub(super) spec: &'a Spec,
    pub(super) observed: &'a Observed,
    pub(super) domain: &'a DomainSpec,
    pub(super) plan: &'a mut Plan,
}

impl<'a> Subject<'a> {
    /// What an export that was interrupted left of a domain, before anything else is done to it.
    pub(super) fn recover(mut self) {
        let name = self.domain.name.clone();
        if self.observed.paused.contains(&name) {
            let action = Action::Resume {
                domain: name.clone(),
            };
            self.push("resume", action, &["lab/start".into()], "it is paused");
        }
        if self.observed.snapshots.contains(&name) {
            let after = ["lab/start".into(), self.id("resume")];
            let reason = "an export was interrupted";
            self.push("merge", Action::Merge { domain: name }, &after, reason);
        }
    }

    /// Everything but [`Subject::stop`] and [`Subject::recover`], which come before.
    pub(super) fn plan(mut self) -> Result<(), PlanError> {
        let digest = self.digest();
        let state = self.state();
        let fresh_disk = self.disks()?;
        self.define(state, &digest);
        let starts = self.start(state);
        self.service(starts, fresh_disk);
        Ok(())
    }

    fn digest(&self) -> Digest {
        let image = &self.observed.images[&self.domain.image].digest;
        domain_digest(self.spec, self.domain, image, self.rom())
    }

    fn rom(&self) -> Option<&'a Digest> {
        let rom = self.observed.roms.get(&self.domain.name);
        rom.map(|rom| &rom.digest)
    }

    fn state(&self) -> Option<&'a DomainState> {
        self.observed.domains.get(self.domain.name.as_str())
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

    /// Shuts a running domain down where a change needs that, after those that depend on it.
    pub(super) fn stop(mut self) {
        let Some(state) = self.state().filter(|state| state.running) else {
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
            .is_some_and(|owner| owner.digest != self.digest())
        {
            "its definition changed"
        } else if self.has("network/stop") {
            "the network changes"
        } else if self.grows() {
            "a disk of it grows"
        } else {
            return;
        };
        let name = &self.domain.name;
        let dependents = self.spec.domains.values();
        let dependents = dependents.filter(|other| other.depends_on.contains(name));
        let mut after: Vec<String> = dependents
            .map(|other| format!("{}/stop", other.name))
            .collect();
        after.push("lab/start".into());
        after.extend(gather(self.spec, self.observed, name, reason, self.plan));
        after.extend([self.id("resume"), self.id("merge")]);
        let action = Action::Stop {
            domain: name.clone(),
        };
        self.push("stop", action, &after, reason);
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
                &[self.id("merge"), self.id("stop"), image.clone()],
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
                        &[self.id("merge"), self.id("stop")],
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
                    let after = [self.id("merge"), self.id("stop")];
                    self.push(&step, action, &after, format!("it is {have}"));
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
                self.id("merge"),
                self.id("stop"),
                self.id("disk"),
            ];
            after.extend(self.rom().map(rom_step));
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
        for step in ["merge", "disk", "grow-disk", "define", "resize", "stop"] {
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
                    &[self.id("resume"), self.id("start")],
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
            Some(_) => return self.renew(),
        };
        self.push(
            "reach",
            Action::Reach {
                domain: name.clone(),
            },
            &[self.id("resume"), self.id("start")],
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

impl Subject<'_> {
    /// Brings a renewed certificate to a service that runs as it should.
    fn renew(&mut self) {
        let name = &self.domain.name;
        let Some(certificate) = self.observed.certificates.get(name).cloned() else {
            return;
        };
        if self.observed.certified.get(name) == Some(&certificate) {
            return;
        }
        let reason = "its certificate was renewed";
        let domain = name.clone();
        self.push(
            "reach",
            Action::Reach { domain },
            &[self.id("resume")],
            reason,
        );
        let action = Action::Renew {
            domain: name.clone(),
            certificate,
        };
        self.push("renew", action, &[self.id("reach")], reason);
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

/// Saves the log of a service that runs, before its guest stops; gives the step's id.
pub(super) fn gather(
    spec: &Spec,
    observed: &Observed,
    name: &Name,
    reason: &str,
    plan: &mut Plan,
) -> Option<String> {
    let running = observed.domains.get(name.as_str())?.running;
    if !running || spec.domains.get(name)?.service.is_none() {
        return None;
    }
    let (id, domain) = (format!("{name}/gather"), name.clone());
    let action = Action::Gather { domain };
    // A guest that stands still answers nothing.
    let after = ["lab/start".into(), format!("{name}/resume")];
    plan.push(&id, action, &after, reason);
    Some(id)
}

/// The file of a data volume in the deployment's volumes folder.
pub(crate) fn volume_file(domain: &Name, volume: &Name) -> String {
    format!("{domain}-{volume}.qcow2")
}
