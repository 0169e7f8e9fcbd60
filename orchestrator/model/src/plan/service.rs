//! A domain's service in a plan: its release, its certificate, and the wait until it is healthy.

use super::builder::PlanBuilder;
use super::domain::DomainPlanner;
use super::{Action, DomainStep, Readiness, StepId, effects, guest};
use crate::observed::{CertificateOwner, Deployed, Pause, Power};
use crate::spec::{Digest, ServiceSpec};

impl DomainPlanner<'_> {
    /// Plans what happens in a guest that runs.
    pub(super) fn guest(&self, fresh_disk: bool, plan: &mut PlanBuilder) {
        if self.intent.holds_power(&self.domain.name) {
            return;
        }
        let continues = if plan.has(&self.id(DomainStep::Continue)) {
            Some("its memory was restored")
        } else if plan.has(&self.id(DomainStep::Resume))
            && self.power() == Power::Paused(Pause::User)
        {
            Some("it was paused")
        } else {
            None
        };
        if let Some(reason) = continues {
            guest::set_clock(self.spec, self.domain, self.observed, reason, plan);
        }
        let starts = plan.has(&self.id(DomainStep::Start));
        self.service(starts, continues, fresh_disk, plan);
        self.file_systems(plan);
    }

    /// Deploys what differs, and waits until a service is healthy that starts or is not. `continues` says why a service
    /// stood still with its guest, if it did.
    fn service(
        &self,
        starts: bool,
        continues: Option<&str>,
        fresh_disk: bool,
        plan: &mut PlanBuilder,
    ) {
        let deployed = self.observed().and_then(|domain| domain.deployed.as_ref());
        let deployed = deployed.filter(|_| !fresh_disk);
        let Some(service) = &self.domain.service else {
            if deployed.is_some() {
                self.withdraw(plan);
            } else if starts {
                self.reach("it starts", plan);
            } else if self.power() == Power::Paused(Pause::IoError) {
                // Resumed too early, it is paused again.
                self.reach("it was paused by a disk's I/O error", plan);
            }
            return;
        };
        let state = self.observed().and_then(|domain| domain.service.as_ref());
        let wanted = state.and_then(|state| state.release.as_ref());
        let serving = state.is_some_and(|state| state.serving);
        let mut restart = false;
        let reason = match deployed {
            None => "nothing is deployed".to_owned(),
            Some(_) if wanted.is_none() => "its secrets are generated".to_owned(),
            Some(deployed) if wanted != Some(&deployed.release) => {
                format!("the release {} is deployed", deployed.release.short())
            }
            Some(_) if starts => "it starts".to_owned(),
            Some(deployed) if let Some(reason) = continues => {
                if !self.certificate_is(deployed) {
                    self.renew(service, plan);
                } else if !self.disturbed {
                    guest::await_service(self.domain, reason, plan);
                }
                return;
            }
            Some(_) if !serving && self.disturbed => return,
            Some(_) if !serving => {
                // Otherwise it may be waiting for them.
                restart = self.dependencies_serve();
                "it is not SERVING".to_owned()
            }
            Some(deployed) => {
                if !self.certificate_is(deployed) {
                    self.renew(service, plan);
                }
                return;
            }
        };
        self.deploy(service, wanted, restart, &reason, plan);
    }

    /// Whether the certificate that should be in use was put into use.
    fn certificate_is(&self, deployed: &Deployed) -> bool {
        let state = self.observed().and_then(|domain| domain.service.as_ref());
        let certificate = state.and_then(|state| state.certificate.as_ref());
        certificate.is_some() && certificate == deployed.certificate.as_ref()
    }

    fn dependencies_serve(&self) -> bool {
        self.domain.depends_on.iter().all(|name| {
            let domain = self.observed.domain(name);
            let service = domain.and_then(|domain| domain.service.as_ref());
            service.is_none_or(|service| service.serving)
        })
    }

    /// Sees to the disks of a guest that is reached, where no service does.
    fn file_systems(&self, plan: &mut PlanBuilder) {
        let (domain, serves) = (self.domain, self.domain.service.is_some());
        let volumes = if serves { &[][..] } else { &domain.volumes };
        let is_due = self.observed().is_some_and(|it| it.file_systems_due);
        let reason = if plan.has(&self.id(DomainStep::GrowDisk)) {
            "its system disk grew"
        } else if is_due {
            "an earlier run was interrupted before it"
        } else if volumes.is_empty() {
            return;
        } else {
            "no service mounts its data volumes"
        };
        match plan.has(&self.id(DomainStep::Reach)) {
            false if is_due => self.reach(reason, plan),
            false => return,
            true => {}
        }
        let action = Action::FileSystems {
            domain: domain.name.clone(),
            volumes: volumes.to_vec(),
        };
        plan.add(action, reason)
            .after(self.id(DomainStep::Reach))
            .if_planned(self.id(DomainStep::Withdraw))
            .if_planned(self.id(DomainStep::Healthy));
    }

    fn deploy(
        &self,
        service: &ServiceSpec,
        release: Option<&Digest>,
        restart: bool,
        reason: &str,
        plan: &mut PlanBuilder,
    ) {
        let domain = || self.domain.name.clone();
        let release = || release.cloned();
        self.reach(reason, plan);
        let push = Action::Push {
            domain: domain(),
            release: release(),
            push: self.domain.push,
            setup_timeout: service.setup_timeout,
        };
        plan.add(push, reason)
            .after(self.id(DomainStep::Reach))
            .if_planned(self.id(DomainStep::Disturb))
            .if_any_planned(self.certificate_steps());
        let activate = Action::Activate {
            domain: domain(),
            release: release(),
            restart,
            readiness: Readiness::of(service),
        };
        let dependencies = self.domain.depends_on.iter();
        let elsewhere = dependencies.clone();
        for other in elsewhere.filter_map(|name| self.spec.elsewhere.get(name)) {
            guest::await_elsewhere(other, plan);
        }
        plan.add(activate, reason)
            .after(self.id(DomainStep::Push))
            .if_any_planned(dependencies.flat_map(guest::healthy));
        let healthy = Action::Healthy {
            domain: domain(),
            release: release(),
            readiness: Readiness::of(service),
        };
        plan.add(healthy, reason)
            .after(self.id(DomainStep::Activate))
            .if_planned(StepId::StartLab);
    }

    /// Ends a service that the topology no longer has, after its log was gathered.
    fn withdraw(&self, plan: &mut PlanBuilder) {
        let reason = "its service is no longer in the topology";
        let domain = || self.domain.name.clone();
        self.reach(reason, plan);
        let gather = Action::Gather {
            domain: domain(),
            address: self.domain.address,
        };
        plan.add(gather, reason).after(self.id(DomainStep::Reach));
        plan.add(Action::Withdraw { domain: domain() }, reason)
            .after(self.id(DomainStep::Gather));
    }

    fn reach(&self, reason: &str, plan: &mut PlanBuilder) {
        guest::await_guest(self.domain, self.observed, reason, plan);
        effects::bring_back(
            self.spec,
            self.intent,
            self.observed,
            &self.domain.name,
            plan,
        );
    }

    /// Brings a renewed certificate to a service that runs as it should.
    fn renew(&self, service: &ServiceSpec, plan: &mut PlanBuilder) {
        let reason = "its certificate was renewed";
        self.reach(reason, plan);
        let action = Action::Renew {
            domain: self.domain.name.clone(),
            readiness: Readiness::of(service),
        };
        plan.add(action, reason)
            .after(self.id(DomainStep::Reach))
            .if_any_planned(self.certificate_steps());
    }

    /// The steps that make the keys which a service's guest gets.
    fn certificate_steps(&self) -> [StepId; 2] {
        let owner = CertificateOwner::Service(self.domain.name.clone());
        [StepId::CreateKeys, StepId::RenewCertificate(owner)]
    }
}
