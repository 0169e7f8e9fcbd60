//! The id of each action's step.

use super::id::{DomainStep, StepId};
use super::step::Action;

impl Action {
    pub fn id(&self) -> StepId {
        let of = StepId::of;
        match self {
            Action::CreateKeys => StepId::CreateKeys,
            Action::RenewCertificate { owner } => StepId::RenewCertificate(owner.clone()),
            Action::RecordIntent { .. } => StepId::RecordIntent,
            Action::StartLab => StepId::StartLab,
            Action::EnsureImage { image } => StepId::Image(image.clone()),
            Action::EnsureRom { digest, .. } => StepId::Rom(digest.clone()),
            Action::DefineNetwork { .. } => StepId::DefineNetwork,
            Action::StartNetwork => StepId::StartNetwork,
            Action::SetNetworkAutostart { .. } => StepId::NetworkAutostart,
            Action::RestoreDns => StepId::RestoreDns,
            Action::StopNetwork => StepId::StopNetwork,
            Action::UndefineNetwork => StepId::UndefineNetwork,
            Action::CreateDisk { domain, .. } => of(domain, DomainStep::CreateDisk),
            Action::GrowDisk { domain, .. } => of(domain, DomainStep::GrowDisk),
            Action::DeleteDisk { domain } => of(domain, DomainStep::DeleteDisk),
            Action::CreateVolume { domain, volume, .. }
            | Action::GrowVolume { domain, volume, .. } => {
                of(domain, DomainStep::Volume(volume.clone()))
            }
            Action::DeleteVolume { file } => StepId::DeleteVolume(file.clone()),
            Action::RenameVolume { domain, volume, .. } => {
                of(domain, DomainStep::RenameVolume(volume.clone()))
            }
            Action::Define { domain, .. } => of(domain, DomainStep::Define),
            Action::SetAutostart { domain, .. } => of(domain, DomainStep::Autostart),
            Action::Start { domain, .. } => of(domain, DomainStep::Start),
            Action::Restart { domain } => of(domain, DomainStep::Restart),
            Action::Save { domain, .. } => of(domain, DomainStep::Save),
            Action::Restore { domain } => of(domain, DomainStep::Restore),
            Action::Continue { domain } => of(domain, DomainStep::Continue),
            Action::SetClock { domain, .. } => of(domain, DomainStep::SetClock),
            Action::Resume { domain } => of(domain, DomainStep::Resume),
            Action::Wake { domain } => of(domain, DomainStep::Wake),
            Action::Merge { domain } => of(domain, DomainStep::Merge),
            Action::Resize { domain, .. } => of(domain, DomainStep::Resize),
            Action::Stop { domain, .. } => of(domain, DomainStep::Stop),
            Action::Undefine { domain } => of(domain, DomainStep::Undefine),
            Action::Gather { domain, .. } => of(domain, DomainStep::Gather),
            Action::Reach { domain, .. } => of(domain, DomainStep::Reach),
            Action::FileSystems { domain, .. } => of(domain, DomainStep::FileSystems),
            Action::Push { domain, .. } => of(domain, DomainStep::Push),
            Action::Activate { domain, .. } => of(domain, DomainStep::Activate),
            Action::Renew { domain, .. } => of(domain, DomainStep::Renew),
            Action::Healthy { domain, .. } => of(domain, DomainStep::Healthy),
            Action::Serving { domain, .. } => of(domain, DomainStep::Serving),
            Action::Withdraw { domain } => of(domain, DomainStep::Withdraw),
            Action::Publish { domain, host, .. } | Action::ChangeFront { domain, host, .. } => {
                of(domain, DomainStep::Publish(*host))
            }
            Action::Unpublish { host } => StepId::Unpublish(*host),
            Action::SetCuts { .. } => StepId::SetCuts,
            Action::SetLink { domain, .. } => of(domain, DomainStep::SetLink),
            Action::Shape { domain, .. } => of(domain, DomainStep::Shape),
            Action::Throttle { domain, disk, .. } => of(domain, DomainStep::Throttle(disk.clone())),
            Action::Disturb { domain, .. } => of(domain, DomainStep::Disturb),
            Action::Panic { domain } => of(domain, DomainStep::Panic),
            Action::SetService { domain, .. } => of(domain, DomainStep::SetService),
            Action::StopLab => StepId::StopLab,
            Action::StopRelay => StepId::StopRelay,
            Action::RemoveLab => StepId::RemoveLab,
            Action::Tidy { domain, .. } => of(domain, DomainStep::Tidy),
            Action::Pause { domain } => of(domain, DomainStep::Pause),
            Action::Snapshot { domain } => of(domain, DomainStep::Snapshot),
            Action::Pack { .. } => StepId::Pack,
            Action::Place { .. } => StepId::Place,
            Action::MergeSnapshot { domain } => of(domain, DomainStep::MergeSnapshot),
            Action::Meet { when } => StepId::Meet(*when),
            Action::BeginSnapshot { .. } => StepId::BeginSnapshot,
            Action::AddLayers { domain } => of(domain, DomainStep::AddLayers),
            Action::TakeSnapshot { domain, .. } => of(domain, DomainStep::TakeSnapshot),
            Action::RecordSnapshot { .. } => StepId::RecordSnapshot,
            Action::Rewind { .. } => StepId::Rewind,
            Action::RemoveSnapshot { snapshot } => StepId::RemoveSnapshot(snapshot.clone()),
        }
    }
}
