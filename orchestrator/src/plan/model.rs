//! A pure model of execution for tests: what `Observed` becomes when a plan's steps are taken.

use super::{Action, Plan};
use crate::libvirt::Ownership;
use crate::observe::{DiskState, DomainState, LabState, NetworkState, Observed};
use crate::spec::Spec;

/// Takes the first `count` steps.
pub fn apply(plan: &Plan, count: usize, spec: &Spec, observed: &mut Observed) {
    for step in plan.steps.iter().take(count) {
        take(&step.action, spec, observed);
    }
}

fn take(action: &Action, spec: &Spec, observed: &mut Observed) {
    let owner = |digest: &crate::spec::Digest| {
        Some(Ownership {
            deployment: spec.name.clone(),
            digest: digest.clone(),
        })
    };
    match action {
        Action::StartLab { .. } => observed.lab = LabState::Running,
        Action::StopRelay => observed.relay = false,
        Action::StopLab => {
            observed.lab = LabState::Stopped;
            observed.published.clear();
        }
        Action::RemoveLab => observed.lab = LabState::Absent,
        Action::EnsureImage { image } => {
            if let Some(image) = observed.images.get_mut(image) {
                image.cached = true;
            }
        }
        Action::EnsureRom { digest, .. } => {
            for rom in observed.roms.values_mut() {
                rom.cached |= rom.digest == *digest;
            }
        }
        Action::DefineNetwork { digest, .. } => {
            let active = observed
                .network
                .as_ref()
                .is_some_and(|network| network.active);
            observed.network = Some(NetworkState {
                owner: owner(digest),
                active,
                hosts: super::up::hosts(spec),
            });
        }
        Action::StartNetwork => set_network(observed, true),
        Action::StopNetwork => set_network(observed, false),
        Action::UndefineNetwork => observed.network = None,
        Action::CreateDisk {
            domain,
            image,
            size,
        } => {
            let image = Some(observed.images[image].digest.clone());
            observed
                .disks
                .insert(domain.to_string(), DiskState { size: *size, image });
            observed.deployed.remove(domain);
        }
        Action::GrowDisk { domain, size } => {
            if let Some(disk) = observed.disks.get_mut(domain.as_str()) {
                disk.size = *size;
            }
        }
        Action::DeleteDisk { domain } => {
            observed.disks.remove(domain.as_str());
            observed.deployed.remove(domain);
        }
        Action::CreateVolume { file, size, .. } | Action::GrowVolume { file, size, .. } => {
            observed.volumes.insert(file.clone(), *size);
        }
        Action::DeleteVolume { file } => {
            observed.volumes.remove(file);
        }
        Action::Define { domain, digest, .. } => {
            let wanted = &spec.domains[domain];
            let running = observed
                .domains
                .get(domain.as_str())
                .is_some_and(|state| state.running);
            let state = DomainState {
                owner: owner(digest),
                running,
                memory: wanted.memory,
                vcpus: wanted.vcpus,
            };
            observed.domains.insert(domain.to_string(), state);
        }
        Action::Resize {
            domain,
            memory,
            vcpus,
        } => {
            if let Some(state) = observed.domains.get_mut(domain.as_str()) {
                (state.memory, state.vcpus) = (*memory, *vcpus);
            }
        }
        Action::Resume { domain } => _ = observed.paused.remove(domain),
        Action::Merge { domain } => _ = observed.snapshots.remove(domain),
        Action::Start { domain } => set_running(observed, domain.as_str(), true),
        Action::Stop { domain } => {
            observed.paused.remove(domain);
            set_running(observed, domain.as_str(), false);
            observed.serving.remove(domain);
        }
        Action::Undefine { domain } => {
            observed.paused.remove(domain);
            observed.domains.remove(domain.as_str());
        }
        Action::Reach { .. } | Action::Push { .. } | Action::Gather { .. } => {}
        Action::Activate { domain, .. } => {
            observed.deployed.remove(domain);
        }
        Action::Healthy { domain, release } => {
            observed.deployed.insert(domain.clone(), release.clone());
            observed.serving.insert(domain.clone());
            if let Some(certificate) = observed.certificates.get(domain) {
                observed
                    .certified
                    .insert(domain.clone(), certificate.clone());
            }
        }
        Action::Renew {
            domain,
            certificate,
        } => {
            observed
                .certified
                .insert(domain.clone(), certificate.clone());
        }
        Action::Publish { host, guest, .. } => {
            observed.published.insert(*host, *guest);
        }
        Action::Unpublish { host } => {
            observed.published.remove(host);
        }
    }
}

fn set_network(observed: &mut Observed, active: bool) {
    if let Some(network) = &mut observed.network {
        network.active = active;
    }
}

fn set_running(observed: &mut Observed, name: &str, running: bool) {
    if let Some(state) = observed.domains.get_mut(name) {
        state.running = running;
    }
}
