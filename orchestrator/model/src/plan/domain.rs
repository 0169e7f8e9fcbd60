//! One domain's part of a plan: its disks, its definition and its power. Its service is planned beside it.

use super::builder::PlanBuilder;
use super::digest::domain_digest;
use super::order::Order;
use super::remove::SystemDisk;
use super::title::sizes;
use super::waits::waits;
use super::{Action, DomainStep, PlanError, SavedState, StepId, memory, network, remove, rename};
use crate::definition::{Affect, DomainDefinition, Interface, KernelSource, Ownership, VolumeDisk};
use crate::intent::Intent;
use crate::observed::{Attached, Base, Crash, Defined, LabState, Observed, ObservedDomain, Power};
use crate::spec::{Boot, Connection, Digest, DomainSpec, Firmware, Size, Spec};

/// Plans one domain of the spec.
pub(super) struct DomainPlanner<'a> {
    pub(super) spec: &'a Spec,
    pub(super) intent: &'a Intent,
    pub(super) observed: &'a Observed,
    pub(super) domain: &'a DomainSpec,
    /// A service that is not SERVING is expected here.
    pub(super) disturbed: bool,
    /// No guest keeps its interface when its network stops.
    pub(super) network_stops: bool,
}

impl<'a> DomainPlanner<'a> {
    /// Makes the guest react, and merges what an interrupted export left, before anything else is done to it.
    pub(super) fn recover(&self, plan: &mut PlanBuilder) {
        let name = &self.domain.name;
        if !self.intent.holds_power(name) {
            remove::rouse(name, self.power(), plan);
        }
        remove::merge(name, self.observed, plan);
    }

    /// Stops a domain where a change needs that, after those that depend on it.
    pub(super) fn stop(&self, order: &Order, plan: &mut PlanBuilder) {
        let name = &self.domain.name;
        let Some(reason) = self.reason_to_stop() else {
            return;
        };
        let after: Vec<StepId> = order
            .dependents(name)
            .map(|dependent| StepId::of(dependent, DomainStep::Stop))
            .collect();
        let disk = match self.reason_to_replace() {
            Some(_) => SystemDisk::Deleted,
            None => SystemDisk::Kept,
        };
        remove::stop(self.spec, self.observed, name, disk, &after, reason, plan);
    }

    /// Plans everything up to a process; says whether the system disk is a new one.
    pub(super) fn begin(&self, plan: &mut PlanBuilder) -> Result<bool, PlanError> {
        self.refuse_overwritten()?;
        let fresh_disk = self.system_disk(plan)?;
        self.volumes(plan)?;
        self.define(plan);
        self.autostart(plan);
        if !self.intent.holds_power(&self.domain.name) {
            self.start(plan);
        }
        Ok(fresh_disk)
    }

    /// Whether it continues from the memory that pspd saved.
    pub(super) fn is_restored(&self) -> bool {
        !self.intent.holds_power(&self.domain.name) && self.reason_to_boot() == Some(None)
    }

    /// Why saved memory is not restored, if it is not; the outer `None` without saved memory, or while the domain runs.
    fn reason_to_boot(&self) -> Option<Option<&'static str>> {
        let observed = self.observed()?;
        let saved = observed.memory.as_ref()?;
        if observed.power.has_process() {
            return None;
        }
        let domain = self.domain;
        let volumes = domain.volumes.iter();
        let mut volumes = volumes.map(|volume| self.observed.volume(&volume.of(&domain.name)));
        let other_disks = self.reason_to_replace().is_some()
            || observed.disk.is_none()
            || volumes.any(|size| size.is_none())
            || rename::is_due(domain, self.observed)
            || self.grows();
        Some(if self.keys_lost() {
            Some("its SSH keys are lost")
        } else if other_disks {
            Some("its disks change")
        } else {
            memory::misfit(saved, &self.digest(), domain.memory, domain.vcpus)
        })
    }

    pub(super) fn observed(&self) -> Option<&'a ObservedDomain> {
        self.observed.domain(&self.domain.name)
    }

    fn defined(&self) -> Option<&'a Defined> {
        self.observed()?.defined.as_ref()
    }

    pub(super) fn power(&self) -> Power {
        self.observed().map_or(Power::Off, |domain| domain.power)
    }

    fn rom(&self) -> Option<&'a Digest> {
        Some(&self.observed()?.rom.as_ref()?.digest)
    }

    fn image(&self) -> &'a Digest {
        &self.observed.images[&self.domain.image].digest
    }

    pub(super) fn id(&self, step: DomainStep) -> StepId {
        StepId::of(&self.domain.name, step)
    }

    fn digest(&self) -> Digest {
        domain_digest(self.spec, self.domain, self.image(), self.rom())
    }

    /// Whether libvirt's definition is made from something else than the spec.
    fn definition_changed(&self) -> bool {
        self.defined()
            .is_some_and(|defined| defined.digest != self.digest())
    }

    /// Whether the guest has keys of which the host's side is lost.
    fn keys_lost(&self) -> bool {
        self.observed.keys.lacks_ssh_key_of(&self.domain.name)
    }

    /// Why a new system disk must replace the existing one.
    fn reason_to_replace(&self) -> Option<&'static str> {
        let disk = self.observed()?.disk.as_ref()?;
        // Two builds of one recipe differ. A file by path or URL has its digest: it comes again as it was.
        let is_built = self.spec.images[&self.domain.image].source.is_built();
        if disk.image.as_ref() != Some(self.image()) {
            Some("its image changed")
        } else if disk.base == Base::Missing && is_built {
            Some("the build of its image that it is based on is no longer cached")
        } else {
            None
        }
    }

    fn grows(&self) -> bool {
        let domain = self.domain;
        let disk = self.observed().and_then(|observed| observed.disk.as_ref());
        let mut volumes = domain.volumes.iter();
        disk.is_some_and(|disk| disk.size < domain.system_disk)
            || volumes.any(|volume| {
                let have = self.observed.volume(&volume.of(&domain.name));
                have.is_some_and(|have| have < volume.size)
            })
    }

    /// Refuses to continue with a disk to which a guest writes what belongs to another content, also as it shuts down.
    fn refuse_overwritten(&self) -> Result<(), PlanError> {
        let running = self.observed().filter(|domain| domain.power.has_process());
        let mut attached = running.into_iter().flat_map(|domain| &domain.attached);
        match attached.find(|(_, now)| **now == Attached::Overwritten) {
            Some((disk, _)) => Err(PlanError::DiskOverwritten {
                domain: self.domain.name.clone(),
                disk: disk.clone(),
            }),
            None => Ok(()),
        }
    }

    fn disk_replaced(&self) -> bool {
        self.observed().is_some_and(ObservedDomain::has_other_disks)
    }

    fn reason_to_stop(&self) -> Option<&'static str> {
        let power = self.power();
        if !power.has_process() {
            return None;
        }
        let network = self.observed.network.as_ref();
        let held = self.intent.holds_power(&self.domain.name);
        Some(if power == Power::Crashed(Crash::Guest) && !held {
            "the guest's kernel panicked"
        } else if let Some(reason) = self.reason_to_replace() {
            reason
        } else if self.observed()?.disk.is_none() {
            "its system disk is missing"
        } else if self.disk_replaced() {
            "the file of a disk was replaced while it runs"
        } else if network.is_none_or(|network| !network.active) {
            "its network is not active"
        } else if rename::is_due(self.domain, self.observed) {
            "its data volumes are renamed"
        } else if self.definition_changed() {
            "its definition changed"
        } else if self.keys_lost() {
            "its SSH keys are lost"
        } else if self.network_stops {
            "the network changes"
        } else if self.grows() {
            "one of its disks grows"
        } else {
            return None;
        })
    }

    /// Creates, grows or replaces the system disk; says whether it is a new one.
    fn system_disk(&self, plan: &mut PlanBuilder) -> Result<bool, PlanError> {
        let name = &self.domain.name;
        let size = self.domain.system_disk;
        let disk = self.observed().and_then(|domain| domain.disk.as_ref());
        let image = StepId::Image(self.domain.image.clone());
        let replaced = self.reason_to_replace();
        if let Some(disk) = disk.filter(|_| replaced.is_none()) {
            if grows(name.as_str(), disk.size, size)? {
                let domain = name.clone();
                plan.add(
                    Action::GrowDisk { domain, size },
                    format!("it has {}", disk.size),
                )
                .if_planned(self.id(DomainStep::Merge))
                .if_planned(self.id(DomainStep::Stop));
            }
            return Ok(false);
        }
        self.fits_image()?;
        if let Some(reason) = replaced {
            let domain = name.clone();
            plan.add(Action::DeleteDisk { domain }, reason)
                .if_planned(self.id(DomainStep::Merge))
                .if_planned(self.id(DomainStep::Stop))
                .if_planned(image.clone());
        }
        let reason = replaced.unwrap_or("it does not exist");
        let action = Action::CreateDisk {
            domain: name.clone(),
            image: self.domain.image.clone(),
            size,
        };
        plan.add(action, reason)
            .if_planned(image)
            .if_planned(self.id(DomainStep::DeleteDisk));
        Ok(true)
    }

    /// Refuses a new system disk that is smaller than its image.
    fn fits_image(&self) -> Result<(), PlanError> {
        let (have, image) = (self.domain.system_disk, &self.domain.image);
        match self.observed.images[image].size {
            Some(least) if have < least => Err(PlanError::SmallerThanImage {
                domain: self.domain.name.to_string(),
                have,
                image: image.clone(),
                least,
            }),
            _ => Ok(()),
        }
    }

    fn define(&self, plan: &mut PlanBuilder) {
        let defined = self.defined();
        match defined {
            Some(defined)
                if defined.persistent && !self.definition_changed() && !self.keys_lost() =>
            {
                self.resize(defined, plan);
            }
            _ => {
                let digest = self.digest();
                let action = Action::Define {
                    domain: self.domain.name.clone(),
                    digest: digest.clone(),
                    // A lab that does not run may have a definition of an earlier run.
                    fresh: defined.is_none() && self.observed.lab != LabState::Stopped,
                    definition: Box::new(self.definition(digest)),
                };
                let reason = match defined {
                    Some(defined) if !defined.persistent => "its definition is gone",
                    Some(_) if self.definition_changed() => "its definition changed",
                    Some(_) => "its SSH keys are lost",
                    None => "it is not defined",
                };
                plan.add(action, reason)
                    .if_planned(StepId::StartLab)
                    .if_planned(StepId::CreateKeys)
                    .if_planned(StepId::DefineNetwork)
                    .if_planned(StepId::Image(self.domain.image.clone()))
                    .if_planned(self.id(DomainStep::Merge))
                    .if_planned(self.id(DomainStep::Stop))
                    .if_planned(self.id(DomainStep::CreateDisk))
                    .if_any_planned(self.rom().cloned().map(StepId::Rom))
                    .if_any_planned(self.volume_steps());
            }
        }
    }

    fn autostart(&self, plan: &mut PlanBuilder) {
        let (wanted, now) = (
            self.spec.autostart,
            self.defined().is_some_and(|it| it.autostart),
        );
        if self.spec.connection != Connection::Lab && wanted != now {
            let action = Action::SetAutostart {
                domain: self.domain.name.clone(),
                autostart: wanted,
            };
            plan.add(action, network::AUTOSTART)
                .if_planned(self.id(DomainStep::Define));
        }
    }

    fn definition(&self, digest: Digest) -> DomainDefinition {
        let domain = self.domain;
        DomainDefinition {
            name: domain.name.clone(),
            ownership: Ownership {
                deployment: self.spec.name.clone(),
                digest,
            },
            accel: self.spec.accel,
            machine: domain.machine,
            image: domain.image.clone(),
            firmware: domain.firmware.clone(),
            rom: self.rom().cloned(),
            kernel: match domain.boot {
                Boot::Disk => KernelSource::Guest,
                Boot::Kernel if domain.firmware.holds_kernel() => KernelSource::Guest,
                Boot::Kernel if domain.firmware == Firmware::Seabios => KernelSource::Hypervisor,
                Boot::Kernel => KernelSource::HypervisorBzImage,
            },
            memory: domain.memory,
            vcpus: domain.vcpus,
            volumes: domain
                .volumes
                .iter()
                .map(|volume| VolumeDisk {
                    file: volume.of(&domain.name).file(),
                    serial: volume.name.to_string(),
                })
                .collect(),
            push: domain.push,
            interface: Interface {
                network: self.spec.network.name.clone(),
                mac: domain.mac,
            },
        }
    }

    /// Memory changes live up to the maximum that the domain was started with. vCPUs change at the next start: QEMU can
    /// plug them at any time, but guests do not bring them online.
    fn resize(&self, defined: &Defined, plan: &mut PlanBuilder) {
        let domain = self.domain;
        let (memory, vcpus) = (domain.memory, domain.vcpus);
        let stays_on = self.power().has_process() && !plan.has(&self.id(DomainStep::Stop));
        let live = defined.live.filter(|_| stays_on);
        if let Some(live) = live {
            for wait in waits(domain, live) {
                plan.note(format!("`{}` gets {wait}", domain.name));
            }
        }
        if (defined.memory, defined.vcpus) == (memory, vcpus)
            || self.intent.holds_memory(&domain.name)
        {
            return;
        }
        let maximum_changes =
            (defined.memory.maximum, defined.vcpus.maximum) != (memory.maximum, vcpus.maximum);
        let memory_affects = match live {
            Some(live) if memory.current <= live.maximum_memory => Affect::Both,
            _ => Affect::Config,
        };
        let reason = format!("it has {}", sizes(defined.memory, defined.vcpus));
        let action = Action::Resize {
            domain: domain.name.clone(),
            memory,
            vcpus,
            memory_affects,
            redefine: maximum_changes.then(|| Box::new(self.definition(self.digest()))),
        };
        plan.add(action, reason)
            .if_planned(StepId::StartLab)
            .if_planned(self.id(DomainStep::Stop));
    }

    /// Starts the domain where it does not run, from its saved memory if that fits.
    fn start(&self, plan: &mut PlanBuilder) {
        let stopped = plan.has(&self.id(DomainStep::Stop));
        let power = self.power();
        if power.has_process() && !stopped {
            return;
        }
        match self.reason_to_boot() {
            None => {}
            Some(None) => {
                let domain = self.domain.name.clone();
                plan.add(Action::Restore { domain }, "its memory is saved")
                    .if_planned(StepId::StartLab)
                    .if_planned(StepId::StartNetwork)
                    .if_any_planned(
                        [DomainStep::Merge, DomainStep::Define].map(|step| self.id(step)),
                    );
                return;
            }
            Some(Some(problem)) => plan.note(memory::boots_instead(&self.domain.name, problem)),
        }
        let redefined =
            plan.has(&self.id(DomainStep::Define)) || plan.has(&self.id(DomainStep::Resize));
        let new_disk = plan.has(&self.id(DomainStep::CreateDisk))
            || self.volume_steps().any(|step| plan.has(&step))
            || self.disk_replaced();
        let saved_state = if power == Power::Saved && (redefined || new_disk) {
            SavedState::Discard
        } else {
            SavedState::Restore
        };
        if saved_state == SavedState::Discard {
            let problem = "its definition or its disks changed";
            plan.note(memory::boots_instead(&self.domain.name, problem));
        }
        let reason = match power {
            _ if stopped => "it was stopped for the change",
            Power::Saved if redefined => "its saved state is from another definition",
            Power::Saved if new_disk => "its saved state is from other disks",
            Power::Saved => "it is saved",
            Power::Crashed(_) => "its process ended unexpectedly",
            Power::ShutDown => "its guest shut down",
            _ => "it is not running",
        };
        let domain = self.domain.name.clone();
        plan.add(
            Action::Start {
                domain,
                saved_state,
            },
            reason,
        )
        .if_planned(StepId::StartLab)
        .if_planned(StepId::StartNetwork)
        .if_any_planned(
            [
                DomainStep::Merge,
                DomainStep::CreateDisk,
                DomainStep::GrowDisk,
                DomainStep::Define,
                DomainStep::Resize,
                DomainStep::Stop,
            ]
            .map(|step| self.id(step)),
        )
        .if_any_planned(self.volume_steps());
    }
}

pub(super) fn grows(disk: &str, have: Size, want: Size) -> Result<bool, PlanError> {
    if have > want {
        return Err(PlanError::Shrinks {
            disk: disk.to_owned(),
            have,
            want,
        });
    }
    Ok(have < want)
}
