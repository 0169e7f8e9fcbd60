//! A pure model of execution: what `Observed` and `Intent` become when a plan's steps are taken.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::definition::Affect;
use crate::observed::*;
use crate::publish::Target;

/// A host and what the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct World {
    pub observed: Observed,
    pub intent: Intent,
    /// The MAC and the address of each domain that was started, while it runs.
    pub held: BTreeMap<Name, (Mac, Ipv4Addr)>,
}

/// The certificate that a renewal makes of one.
pub(super) fn renewed(name: &Name) -> Digest {
    Digest::of(format!("the renewed certificate of {name}").as_bytes())
}

impl World {
    /// Takes the first `count` steps.
    pub(super) fn apply(&mut self, plan: &Plan, count: usize, spec: &Spec) {
        self.begin(plan);
        for step in plan.steps.iter().take(count) {
            self.take(&step.action, spec);
        }
    }

    /// What execution records before the first step.
    fn begin(&mut self, plan: &Plan) {
        for step in &plan.steps {
            if let Action::FileSystems { domain, .. } = &step.action {
                self.domain(domain).file_systems_due = true;
            }
        }
    }

    /// Takes `count` steps, each any of those whose edges allow it: as parallel execution may.
    pub(super) fn apply_in_any_order(
        &mut self,
        plan: &Plan,
        count: usize,
        spec: &Spec,
        picks: &[u8],
    ) {
        self.begin(plan);
        let mut waiting: Vec<&Step> = plan.steps.iter().collect();
        let mut taken = BTreeSet::new();
        for pick in picks.iter().cycle().take(count.min(waiting.len())) {
            let ready = |step: &&&Step| step.after.iter().all(|id| taken.contains(id));
            let ready: Vec<StepId> = waiting
                .iter()
                .filter(ready)
                .map(|step| step.id.clone())
                .collect();
            let next = &ready[usize::from(*pick) % ready.len()];
            let index = waiting.iter().position(|step| step.id == *next).unwrap();
            let step = waiting.remove(index);
            self.take(&step.action, spec);
            taken.insert(step.id.clone());
        }
    }

    pub(super) fn domain(&mut self, name: &Name) -> &mut ObservedDomain {
        self.observed.domains.entry(name.clone()).or_default()
    }

    fn take(&mut self, action: &Action, spec: &Spec) {
        match action {
            Action::CreateKeys => self.create_keys(spec),
            Action::RenewCertificate { owner } => {
                self.observed.keys.expiring.remove(owner);
                match owner {
                    CertificateOwner::Client => {}
                    CertificateOwner::Service(name) => {
                        let certificate = Some(renewed(name));
                        self.service(name).certificate = certificate;
                    }
                    CertificateOwner::Front(host) => {
                        let certificate = Digest::of(format!("renewed {host}").as_bytes());
                        self.observed.front_certificates.insert(*host, certificate);
                    }
                }
            }
            Action::RecordIntent { intent, before } => {
                assert_eq!(*before, self.intent);
                self.intent = intent.clone();
            }
            Action::EnsureImage { .. }
            | Action::EnsureRom { .. }
            | Action::CreateVolume { .. }
            | Action::GrowVolume { .. }
            | Action::RenameVolume { .. }
            | Action::DeleteVolume { .. } => self.take_of_files(action),
            Action::SetLink { domain, link } => {
                assert!(
                    self.domain(domain).power.has_process(),
                    "{domain} has a link"
                );
                self.domain(domain).link_down = *link == Link::Down;
            }
            Action::Shape { domain, routes, .. } => {
                let domain = self.domain(domain);
                assert_eq!((domain.power, domain.link_down), (Power::Running, false));
                domain.shaping = (!routes.is_empty()).then(|| Shaping {
                    routes: routes.clone(),
                    complete: true,
                });
            }
            Action::Throttle {
                domain,
                disk,
                limit,
            } => {
                let domain = self.domain(domain);
                assert!(domain.power.has_process());
                domain.throttles.remove(disk);
                if !limit.is_none() {
                    domain.throttles.insert(disk.clone(), *limit);
                }
            }
            Action::Disturb { domain, by } => {
                let domain = self.domain(domain);
                assert_eq!((domain.power, domain.link_down), (Power::Running, false));
                domain.disturbed = (!by.is_none()).then(|| Disturbed {
                    by: by.clone(),
                    complete: true,
                });
            }
            Action::Panic { domain } => {
                let domain = self.domain(domain);
                assert_eq!((domain.power, domain.link_down), (Power::Running, false));
                domain.power = Power::Crashed(Crash::Guest);
            }
            Action::SetService { domain, order } => {
                assert_eq!(self.domain(domain).power, Power::Running);
                self.service(domain).serving = *order != ServiceOrder::Stop;
            }
            Action::SetCuts { .. }
            | Action::StartLab
            | Action::StopLab
            | Action::RemoveLab
            | Action::StopRelay
            | Action::Publish { .. }
            | Action::ChangeFront { .. }
            | Action::Unpublish { .. } => self.take_of_lab(action),
            Action::DefineNetwork { definition, .. } => {
                let active = self.observed.network.as_ref().is_some_and(|it| it.active);
                let hosts = definition.hosts.iter();
                self.observed.network = Some(NetworkState {
                    owner: Some(definition.ownership.clone()),
                    active,
                    autostart: self
                        .observed
                        .network
                        .as_ref()
                        .is_some_and(|it| it.autostart),
                    dns: self.observed.network.as_ref().is_some_and(|it| it.dns),
                    hosts: hosts
                        .map(|host| (host.name.clone(), host.mac, host.address))
                        .collect(),
                });
            }
            Action::SetNetworkAutostart { autostart } => {
                self.observed.network.as_mut().unwrap().autostart = *autostart;
            }
            Action::SetAutostart { domain, autostart } => {
                self.domain(domain).defined.as_mut().unwrap().autostart = *autostart;
            }
            Action::RestoreDns => self.set_network(true),
            Action::StartNetwork => self.set_network(true),
            Action::StopNetwork => self.set_network(false),
            Action::UndefineNetwork => self.observed.network = None,
            Action::CreateDisk {
                domain,
                image,
                size,
            } => {
                let image = Some(self.observed.images[image].digest.clone());
                let domain = self.domain(domain);
                domain.disk = Some(DiskState {
                    size: *size,
                    image,
                    base: Base::Present,
                });
                (domain.deployed, domain.shaping, domain.disturbed) = (None, None, None);
            }
            Action::GrowDisk { domain, size } => {
                if let Some(disk) = &mut self.domain(domain).disk {
                    disk.size = *size;
                }
            }
            Action::DeleteDisk { domain } => {
                let domain = self.domain(domain);
                (domain.disk, domain.deployed, domain.memory) = (None, None, None);
                (domain.shaping, domain.disturbed) = (None, None);
            }
            Action::Define {
                domain, definition, ..
            } => {
                self.discard_saved_state(domain);
                let domain = self.domain(domain);
                let runs = domain.power.has_process();
                let autostart = domain.defined.as_ref().is_some_and(|it| it.autostart);
                let before = domain.defined.as_ref().filter(|_| runs);
                domain.defined = Some(Defined {
                    digest: definition.ownership.digest.clone(),
                    persistent: true,
                    autostart,
                    memory: definition.memory,
                    vcpus: definition.vcpus,
                    live: before.and_then(|before| before.live),
                });
            }
            Action::Undefine { domain } => {
                let domain = self.domain(domain);
                (domain.defined, domain.power) = (None, Power::Off);
            }
            Action::Resize {
                domain,
                memory,
                vcpus,
                memory_affects,
                ..
            } => {
                self.discard_saved_state(domain);
                let running = self.domain(domain).power.has_process();
                if let Some(defined) = &mut self.domain(domain).defined {
                    assert!(running || *memory_affects == Affect::Config);
                    (defined.memory, defined.vcpus) = (*memory, *vcpus);
                }
            }
            Action::Merge { domain } | Action::MergeSnapshot { domain } => {
                self.domain(domain).unmerged = false;
            }
            Action::Tidy { .. }
            | Action::Pause { .. }
            | Action::Snapshot { .. }
            | Action::Pack { .. }
            | Action::Place { .. } => self.take_of_archive(action),
            Action::Meet { .. }
            | Action::BeginSnapshot { .. }
            | Action::AddLayers { .. }
            | Action::TakeSnapshot { .. }
            | Action::RecordSnapshot { .. }
            | Action::Rewind { .. }
            | Action::RemoveSnapshot { .. } => self.take_of_snapshot(action),
            Action::Start { domain, .. } => self.start(domain, spec),
            // Another host runs it.
            Action::Serving { domain, .. } if spec.elsewhere.contains_key(domain) => {}
            Action::Save { .. }
            | Action::Restore { .. }
            | Action::Continue { .. }
            | Action::Restart { .. }
            | Action::SetClock { .. }
            | Action::Serving { .. } => self.take_of_power(action, spec),
            Action::Resume { domain } | Action::Wake { domain } => {
                let domain = self.domain(domain);
                (domain.power, domain.memory) = (Power::Running, None);
            }
            Action::Stop { domain, .. } => {
                self.held.remove(domain);
                self.domain(domain).power = Power::Off;
                self.domain(domain).link_down = false;
                self.domain(domain).throttles.clear();
                self.domain(domain).attached.clear();
                if let Some(service) = &mut self.domain(domain).service {
                    service.serving = false;
                }
            }
            Action::FileSystems { domain, .. } => self.domain(domain).file_systems_due = false,
            Action::Reach { domain, .. } | Action::Push { domain, .. } => {
                assert_eq!(
                    self.domain(domain).power,
                    Power::Running,
                    "{domain} answers"
                );
            }
            Action::Gather { domain, .. } => {
                assert_eq!(
                    self.domain(domain).power,
                    Power::Running,
                    "{domain} answers"
                );
            }
            Action::Activate {
                domain, release, ..
            } => {
                let deployed = &mut self.domain(domain).deployed;
                let same = |deployed: &mut Deployed| release.as_ref() == Some(&deployed.release);
                *deployed = deployed.take_if(same);
            }
            Action::Healthy {
                domain, release, ..
            } => {
                let service = self.service(domain);
                service.serving = true;
                let (wanted, certificate) = (service.release.clone(), service.certificate.clone());
                assert!(release.is_none() || *release == wanted);
                self.domain(domain).deployed = wanted.map(|release| Deployed {
                    release,
                    certificate,
                });
            }
            Action::Withdraw { domain } => self.domain(domain).deployed = None,
            Action::Renew { domain, .. } => {
                let certificate = self.service(domain).certificate.clone();
                if let Some(deployed) = &mut self.domain(domain).deployed {
                    deployed.certificate = certificate;
                }
            }
        }
    }

    fn take_of_files(&mut self, action: &Action) {
        match action {
            Action::EnsureImage { image } => {
                if let Some(image) = self.observed.images.get_mut(image) {
                    image.cached = true;
                }
            }
            Action::EnsureRom { digest, .. } => {
                for domain in self.observed.domains.values_mut() {
                    if let Some(rom) = &mut domain.rom {
                        rom.cached |= rom.digest == *digest;
                    }
                }
            }
            Action::CreateVolume { file, size, .. } | Action::GrowVolume { file, size, .. } => {
                let id = VolumeId::of_file(file).unwrap();
                self.observed.volumes.insert(id, *size);
            }
            Action::RenameVolume { from, file, .. } => {
                let id = VolumeId::of_file(file).unwrap();
                assert!(!self.domain(&id.domain).power.has_process());
                let old = self.observed.old_volumes.remove(from).unwrap();
                self.observed.volumes.insert(id, old.size);
            }
            Action::DeleteVolume { file } => {
                self.observed.old_volumes.remove(file);
                if let Some(id) = VolumeId::of_file(file) {
                    self.observed.volumes.remove(&id);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_of_archive(&mut self, action: &Action) {
        match action {
            Action::Tidy { domain, .. } => {
                assert_eq!(self.domain(domain).power, Power::Running);
            }
            Action::Pause { domain } => {
                let domain = self.domain(domain);
                assert_eq!(domain.power, Power::Running);
                domain.power = Power::Paused(Pause::User);
            }
            Action::Snapshot { domain } => {
                let mut domains = self.observed.domains.values();
                let stands = domains.all(|domain| domain.power != Power::Running);
                assert!(stands, "`{domain}` is frozen while a guest runs");
                let domain = self.domain(domain);
                assert!(!domain.unmerged, "its disks are frozen twice");
                domain.unmerged = true;
            }
            Action::Pack { .. } => {
                for (name, domain) in &self.observed.domains {
                    let written = domain.power.has_process() && !domain.unmerged;
                    assert!(!written, "`{name}` writes to the disks that are packed");
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_of_snapshot(&mut self, action: &Action) {
        let running = |domain: &ObservedDomain| domain.power == Power::Running;
        match action {
            Action::TakeSnapshot { domain, of, .. } => {
                let stands = !self.observed.domains.values().any(running);
                assert!(stands, "`{domain}` is saved while a guest runs");
                let power = self.domain(domain).power;
                assert_eq!(of.has_process(), power.has_process(), "{domain}");
            }
            Action::RecordSnapshot { snapshot, .. } => {
                assert!(self.observed.snapshots.insert(snapshot.clone()));
            }
            Action::Rewind { .. } => {
                for (name, domain) in &self.observed.domains {
                    assert!(!domain.power.has_process(), "`{name}` writes to its disks");
                }
            }
            Action::RemoveSnapshot { snapshot } => {
                assert!(self.observed.snapshots.remove(snapshot));
            }
            Action::Meet { .. } | Action::BeginSnapshot { .. } | Action::AddLayers { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn take_of_power(&mut self, action: &Action, spec: &Spec) {
        match action {
            Action::Save { domain, machine } => {
                self.held.remove(domain);
                let domain = self.domain(domain);
                assert!(
                    matches!(domain.power, Power::Paused(_)),
                    "{:?}",
                    domain.power
                );
                domain.power = Power::Off;
                domain.attached.clear();
                domain.throttles.clear();
                domain.memory = Some(SavedMemory {
                    definition: machine.definition.clone(),
                    memory: machine.memory,
                    vcpus: machine.vcpus,
                    condition: MemoryCondition::Usable,
                });
                if let Some(service) = &mut domain.service {
                    service.serving = false;
                }
            }
            Action::Restore { domain } => {
                let saved = self.domain(domain).memory.clone().unwrap();
                self.start(domain, spec);
                let domain = self.domain(domain);
                let defined = domain.defined.as_ref().unwrap();
                assert_eq!(saved.definition, defined.digest);
                (domain.power, domain.memory) = (Power::Paused(Pause::User), Some(saved));
            }
            Action::Continue { domain } => {
                let domain = self.domain(domain);
                assert_eq!(domain.power, Power::Paused(Pause::User));
                (domain.power, domain.memory) = (Power::Running, None);
            }
            Action::Restart { domain } | Action::SetClock { domain, .. } => {
                assert_eq!(self.domain(domain).power, Power::Running);
            }
            Action::Serving { domain, .. } => {
                assert_eq!(self.domain(domain).power, Power::Running);
                self.service(domain).serving = true;
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_of_lab(&mut self, action: &Action) {
        match action {
            Action::StartLab => self.observed.lab = LabState::Running,
            Action::StopRelay => self.observed.relay = false,
            Action::StopLab => {
                self.observed.lab = LabState::Stopped;
                self.observed.published.clear();
                self.observed.fronts.clear();
                self.observed.cuts.clear();
            }
            Action::SetCuts { cuts } => {
                assert_eq!(self.observed.lab, LabState::Running);
                self.observed.cuts = cuts.clone();
            }
            Action::RemoveLab => self.observed.lab = LabState::Absent,
            Action::Publish { domain, host, to } => {
                let mut others = self.held.iter().filter(|(name, _)| *name != domain);
                let wrong = others.find(|(_, (_, address))| *address == to.guest.ip());
                assert_eq!(wrong, None, "{host} is published for `{domain}`");
                assert_eq!(self.observed.published.insert(*host, to.guest), None);
                self.front(*host, to);
            }
            Action::ChangeFront { host, to, .. } => {
                assert_eq!(self.observed.published.get(host), Some(&to.guest));
                assert!(self.observed.fronts.contains_key(host) && to.front.is_some());
                self.front(*host, to);
            }
            Action::Unpublish { host } => {
                self.observed.published.remove(host);
                self.observed.fronts.remove(host);
            }
            other => panic!("{other:?}"),
        }
    }

    /// A front answers with the certificate that exists when it is started.
    fn front(&mut self, host: SocketAddr, to: &Target) {
        let Some(front) = &to.front else { return };
        let certificate = self.observed.front_certificates.get(&host);
        let runs = FrontState {
            hosts: front.hosts.clone(),
            certificate: front.tls.as_ref().map(|_| certificate.unwrap().clone()),
        };
        self.observed.fronts.insert(host, runs);
    }

    fn create_keys(&mut self, spec: &Spec) {
        self.observed.keys.missing.clear();
        for name in spec.domains.keys() {
            *self.service(name) = service(name);
        }
        let published = spec.domains.values().flat_map(|domain| &domain.publish);
        for host in published.filter(|it| it.is_self_signed()).map(|it| it.host) {
            let certificate = Digest::of(host.to_string().as_bytes());
            self.observed.front_certificates.insert(host, certificate);
        }
    }

    fn service(&mut self, name: &Name) -> &mut ServiceState {
        self.domain(name).service.as_mut().unwrap()
    }

    /// What a change of the definition does first.
    fn discard_saved_state(&mut self, name: &Name) {
        let domain = self.domain(name);
        if domain.power == Power::Saved {
            domain.power = Power::Off;
        }
    }

    fn set_network(&mut self, active: bool) {
        if let Some(network) = &mut self.observed.network {
            (network.active, network.dns) = (active, active);
        }
    }

    fn start(&mut self, name: &Name, spec: &Spec) {
        let started = &spec.domains[name];
        let (mac, address) = (started.mac, started.address);
        let holder = self.held.iter().find(|(other, (their_mac, theirs))| {
            *other != name && (*their_mac == mac || *theirs == address)
        });
        assert_eq!(holder, None, "`{name}` starts with their MAC or address");
        let to_it = self.observed.published.iter();
        let mut to_it = to_it.filter(|(_, guest)| guest.ip() == address);
        let own = |host: &SocketAddr| started.publish.iter().any(|it| it.host == *host);
        assert_eq!(
            to_it.find(|(host, _)| !own(host)),
            None,
            "leads to `{name}`"
        );
        self.held.insert(name.clone(), (mac, address));
        let domain = self.domain(name);
        (domain.power, domain.memory) = (Power::Running, None);
        domain.attached.clear();
        if let Some(defined) = &mut domain.defined {
            defined.live = Some(Live {
                maximum_memory: defined.memory.maximum,
                vcpus: defined.vcpus,
            });
        }
    }
}

/// A domain's service with keys, before it runs.
pub(super) fn service(name: &Name) -> ServiceState {
    ServiceState {
        release: Some(Digest::of(name.as_str().as_bytes())),
        certificate: Some(Digest::of(format!("{name}'s").as_bytes())),
        serving: false,
    }
}
