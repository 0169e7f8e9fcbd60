//! What each step does, in words.

use std::fmt;

use super::{Action, Link, Meeting, ServiceOrder, SnapshotOf, StopMode};
use crate::harm::{Disturbance, Offset};
use crate::observed::CertificateOwner;
use crate::spec::{Digest, Range, Size};

impl Action {
    /// What the action does, for people; the domain is named beside it.
    pub fn title(&self) -> String {
        match self {
            Action::CreateKeys => "create keys and certificates".into(),
            Action::RenewCertificate { owner } => match owner {
                CertificateOwner::Client => "renew pspd's own certificate".into(),
                CertificateOwner::Service(name) => format!("renew the certificate of `{name}`"),
                CertificateOwner::Front(host) => format!("renew the certificate of {host}"),
            },
            Action::RecordIntent { .. } => "update the recorded intent".into(),
            Action::StartLab => "start the lab".into(),
            Action::EnsureImage { image } => format!("get the image `{image}`"),
            Action::EnsureRom { digest, .. } => format!("build the ROM {}", digest.short()),
            Action::DefineNetwork { .. } => "define the network".into(),
            Action::StartNetwork => "start the network".into(),
            Action::SetNetworkAutostart { autostart: true } => {
                "start the network with the host".into()
            }
            Action::SetNetworkAutostart { autostart: false } => {
                "do not start the network with the host".into()
            }
            Action::RestoreDns => "restart the network's DNS server".into(),
            Action::StopNetwork => "stop the network".into(),
            Action::UndefineNetwork => "undefine the network".into(),
            Action::CreateDisk { size, .. } => format!("create the system disk, {size}"),
            Action::GrowDisk { size, .. } => format!("grow the system disk to {size}"),
            Action::CreateVolume { file, size, .. } => {
                format!("create the data volume `{file}`, {size}")
            }
            Action::GrowVolume { file, size, .. } => {
                format!("grow the data volume `{file}` to {size}")
            }
            Action::DeleteDisk { .. } => "delete the system disk".into(),
            Action::DeleteVolume { file } => format!("delete the data volume `{file}`"),
            Action::RenameVolume { from, file, .. } => {
                format!("rename the data volume `{from}` to `{file}`")
            }
            Action::Define { .. } => "define".into(),
            Action::SetAutostart { autostart, .. } => match autostart {
                true => "start with the host".into(),
                false => "do not start with the host".into(),
            },
            Action::Start { .. } => "start".into(),
            Action::Restart { .. } => "restart".into(),
            Action::Save { .. } => "save its memory".into(),
            Action::Restore { .. } => "restore its memory".into(),
            Action::Continue { .. } => "resume".into(),
            Action::SetClock { .. } => "set its clock".into(),
            Action::Resume { .. } => "resume".into(),
            Action::Wake { .. } => "wake up".into(),
            Action::Merge { .. } => "merge the snapshot of its disks".into(),
            Action::Resize { memory, vcpus, .. } => {
                format!("set {}", sizes(*memory, *vcpus))
            }
            Action::Stop { mode, .. } => match mode {
                StopMode::Shutdown => "shut down".into(),
                StopMode::Force => "force off".into(),
            },
            Action::Undefine { .. } => "undefine".into(),
            Action::Reach { .. } => "wait for SSH".into(),
            Action::FileSystems { .. } => "grow and mount its file systems".into(),
            Action::Push { release, .. } => format!("push the release{}", shown(release)),
            Action::Activate {
                release, restart, ..
            } => {
                let verb = if *restart { "restart" } else { "activate" };
                format!("{verb} the release{}", shown(release))
            }
            Action::Gather { .. } => "gather its log".into(),
            Action::Renew { .. } => "install the renewed certificate".into(),
            Action::Healthy { .. } | Action::Serving { .. } => "wait until SERVING".into(),
            Action::Withdraw { .. } => "stop and remove its service".into(),
            Action::Publish { host, to, .. } => format!("publish {to} on {host}"),
            Action::ChangeFront { host, to, .. } => {
                format!("update {host}, which publishes {to}")
            }
            Action::Unpublish { host } => format!("stop publishing on {host}"),
            Action::SetCuts { cuts } if cuts.is_empty() => "let all guests reach each other".into(),
            Action::SetCuts { cuts } => {
                format!("cut guests off from each other, {} rules", cuts.len())
            }
            Action::SetLink { link, .. } => match link {
                Link::Up => "connect its network link".into(),
                Link::Down => "disconnect its network link".into(),
            },
            Action::Shape { routes, .. } if routes.is_empty() => {
                "remove the delays of what it sends".into()
            }
            Action::Shape { routes, .. } => match routes.len() {
                1 => "delay what it sends to another guest".into(),
                count => format!("delay what it sends to {count} guests"),
            },
            Action::Throttle { disk, limit, .. } if limit.is_none() => {
                format!("remove the limit of its disk `{disk}`")
            }
            Action::Throttle { disk, .. } => format!("slow its disk `{disk}`"),
            Action::Disturb { by, .. } => disturbances(by),
            Action::Panic { .. } => "make its kernel panic".into(),
            Action::SetService { order, .. } => match order {
                ServiceOrder::Kill => "kill its service".into(),
                ServiceOrder::Stop => "stop its service".into(),
                ServiceOrder::Start => "start its service".into(),
            },
            Action::StopLab => "stop the lab".into(),
            Action::StopRelay => "stop the relay of published ports".into(),
            Action::RemoveLab => "remove the lab's files".into(),
            Action::Tidy { .. } => "trim its disks".into(),
            Action::Pause { .. } => "pause".into(),
            Action::Snapshot { .. } => "freeze its disks".into(),
            Action::Pack { archive, .. } => format!("write `{}`", archive.display()),
            Action::Place { archive, folder } => {
                format!("unpack `{}` into `{}`", archive.display(), folder.display())
            }
            Action::MergeSnapshot { .. } => "merge the snapshot of its disks".into(),
            Action::Meet { when } => match when {
                Meeting::Ready => "wait until all hosts are ready to pause".into(),
                Meeting::Paused => "wait until the domains of all hosts are paused".into(),
                Meeting::Saved => "wait until all hosts have their part of the snapshot".into(),
            },
            Action::BeginSnapshot { .. } => "create the folder of the snapshot".into(),
            Action::AddLayers { .. } => "add layers to its disks".into(),
            Action::TakeSnapshot { of, .. } => match of {
                SnapshotOf::Memory(_) | SnapshotOf::SavedMemory => {
                    "freeze its disks and keep its memory".into()
                }
                SnapshotOf::Running | SnapshotOf::Off => "freeze its disks".into(),
            },
            Action::RecordSnapshot { snapshot, .. } => format!("record the snapshot `{snapshot}`"),
            Action::Rewind {
                snapshot,
                disk_only,
            } => {
                let memory = if *disk_only { "" } else { " and the memory" };
                format!("restore the disks{memory} of `{snapshot}`")
            }
            Action::RemoveSnapshot { snapshot } => format!("remove the snapshot `{snapshot}`"),
        }
    }
}

/// A size with its maximum, where that is another.
pub(super) fn sizes(memory: Range<Size>, vcpus: Range<u32>) -> String {
    format!("{} and {} vCPUs", of(memory), of(vcpus))
}

fn of<T: PartialEq + fmt::Display>(range: Range<T>) -> String {
    let Range { current, maximum } = range;
    if current == maximum {
        current.to_string()
    } else {
        format!("{current} of {maximum}")
    }
}

fn disturbances(by: &Disturbance) -> String {
    let full = by.full.keys();
    let mut words: Vec<String> = full.map(|disk| format!("fill its disk `{disk}`")).collect();
    let failing = by.failing.keys();
    words.extend(failing.map(|disk| format!("make its disk `{disk}` fail")));
    if by.clock != Offset(0) {
        words.push(format!("set its clock off by {}", by.clock));
    }
    if by.burn != 0 {
        words.push(format!("burn {}% of its CPUs", by.burn));
    }
    if words.is_empty() {
        "end the faults inside the guest".into()
    } else {
        words.join(", ")
    }
}

fn shown(release: &Option<Digest>) -> String {
    release
        .as_ref()
        .map(|digest| format!(" {}", digest.short()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_is_shown_where_it_is_another() {
        let range = |current, maximum| Range { current, maximum };
        let memory = Range {
            current: Size::mib(640),
            maximum: Size::mib(640),
        };
        assert_eq!(sizes(memory, range(1, 2)), "640 MiB and 1 of 2 vCPUs");
        assert_eq!(sizes(memory, range(2, 2)), "640 MiB and 2 vCPUs");
    }
}
