//! A plan as plain data.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{DomainStep, StepId};
use crate::definition::{Affect, DomainDefinition, NetworkDefinition};
use crate::fault::Cut;
use crate::harm::{Disturbance, Offset, Throttle};
use crate::intent::Intent;
use crate::observed::CertificateOwner;
use crate::publish::Target;
use crate::shape::Route;
use crate::spec::{Digest, Firmware, HealthCheck, Name, Range, Size, VolumeSpec};

/// What one step does, with all values that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Creates the keys that are missing.
    CreateKeys,
    /// Signs a certificate that replaces one with little time left.
    RenewCertificate {
        owner: CertificateOwner,
    },
    /// Replaces the record of what the user asked for beside the topology.
    RecordIntent {
        intent: Intent,
        /// The record before, to which an interrupted run goes back.
        before: Intent,
    },
    StartLab,
    /// Builds or fetches a key of the spec's images, where it is not cached.
    EnsureImage {
        image: String,
    },
    /// Builds the ROM that a domain's firmware is, where it is not cached; others may share it.
    EnsureRom {
        domain: Name,
        /// A key of the spec's images, whose kernel may be a part of the ROM.
        image: String,
        digest: Digest,
        firmware: Firmware,
    },
    /// `fresh`: it replaces no other.
    DefineNetwork {
        digest: Digest,
        fresh: bool,
        definition: NetworkDefinition,
    },
    StartNetwork,
    /// Lets libvirt start the network with the host, or not.
    SetNetworkAutostart {
        autostart: bool,
    },
    /// Starts the DNS and DHCP server of an active network again; its guests keep running.
    RestoreDns,
    StopNetwork,
    UndefineNetwork,
    /// Creates a domain's system disk, an overlay of its image.
    CreateDisk {
        domain: Name,
        image: String,
        size: Size,
    },
    GrowDisk {
        domain: Name,
        size: Size,
    },
    DeleteDisk {
        domain: Name,
    },
    /// Creates an empty data volume, a file of the deployment's volumes folder.
    CreateVolume {
        domain: Name,
        volume: Name,
        file: String,
        size: Size,
    },
    GrowVolume {
        domain: Name,
        volume: Name,
        file: String,
        size: Size,
    },
    DeleteVolume {
        file: String,
    },
    /// Gives the file of a data volume its current name; nothing has it open.
    RenameVolume {
        domain: Name,
        volume: Name,
        from: String,
        file: String,
    },
    /// `fresh`: it replaces no other.
    Define {
        domain: Name,
        digest: Digest,
        fresh: bool,
        definition: Box<DomainDefinition>,
    },
    /// Lets libvirt start a domain with the host, or not.
    SetAutostart {
        domain: Name,
        autostart: bool,
    },
    Start {
        domain: Name,
        saved_state: SavedState,
    },
    /// Lets the virtual CPUs of a paused domain run.
    Resume {
        domain: Name,
    },
    /// Lets its guest restart; the process and what it holds stay. Forces it off and starts it if the guest does not react.
    Restart {
        domain: Name,
    },
    /// Writes the memory of a paused domain to a file of the deployment, and ends its process.
    Save {
        domain: Name,
        #[serde(flatten)]
        machine: SavedMachine,
    },
    /// Starts a process from the saved memory; its virtual CPUs do not run yet.
    Restore {
        domain: Name,
    },
    /// Lets the virtual CPUs of a restored domain run.
    Continue {
        domain: Name,
    },
    /// Sets a guest's clock by SSH, where nothing in the guest does it.
    SetClock {
        domain: Name,
        /// How far a fault set it off.
        clock: Offset,
    },
    /// Wakes a guest that suspended itself to memory.
    Wake {
        domain: Name,
    },
    /// Merges the overlays that an interrupted export left into the domain's disks.
    Merge {
        domain: Name,
    },
    Resize {
        domain: Name,
        memory: Range<Size>,
        vcpus: Range<u32>,
        memory_affects: Affect,
        /// The definition with the new maximum, where that changed.
        redefine: Option<Box<DomainDefinition>>,
    },
    Stop {
        domain: Name,
        mode: StopMode,
    },
    Undefine {
        domain: Name,
    },
    /// Saves what a service logged on the host, where it outlives the guest.
    Gather {
        domain: Name,
        /// Where its guest is now; the topology may have another address for it, or none.
        address: Ipv4Addr,
    },
    /// Waits until the guest answers by SSH with its pinned host key, on the firmware that it should run on.
    Reach {
        domain: Name,
        firmware: Firmware,
        /// The default suits the accelerator.
        boot_timeout: Option<Duration>,
        /// How far a fault set its clock off, which is set right but for that.
        clock: Offset,
    },
    /// Waits until the guest's root file system is as large as its disk, and mounts the volumes that no service mounts.
    FileSystems {
        domain: Name,
        volumes: Vec<VolumeSpec>,
    },
    /// Copies a release's files into the guest, where nothing uses them yet.
    Push {
        domain: Name,
        /// `None` where its secrets are generated by this plan.
        release: Option<Digest>,
    },
    /// Switches to the release and starts it.
    Activate {
        domain: Name,
        release: Option<Digest>,
        /// Whether the service is restarted also where the release is in use: it was healthy and is not any longer.
        restart: bool,
    },
    /// Puts a renewed certificate into use while the service runs, and waits until the service uses it.
    Renew {
        domain: Name,
        health: HealthCheck,
        /// For a service that must be restarted for it.
        start_timeout: Option<Duration>,
    },
    /// Waits until the service is SERVING. If it does not get there, a release that was never healthy is rolled back; one
    /// that was is restarted.
    Healthy {
        domain: Name,
        release: Option<Digest>,
        health: HealthCheck,
        /// The default suits the health check and the accelerator.
        start_timeout: Option<Duration>,
    },
    /// Waits until the service that the guest has is SERVING, and changes nothing of it.
    Serving {
        domain: Name,
        health: HealthCheck,
        /// The default suits the health check and the accelerator.
        start_timeout: Option<Duration>,
    },
    /// Stops and disables a service in its guest, and removes its releases.
    Withdraw {
        domain: Name,
    },
    Publish {
        domain: Name,
        host: SocketAddr,
        #[serde(flatten)]
        to: Target,
    },
    /// Gives a published front other hosts or another certificate; its address stays open.
    ChangeFront {
        domain: Name,
        host: SocketAddr,
        #[serde(flatten)]
        to: Target,
    },
    Unpublish {
        host: SocketAddr,
    },
    /// Replaces what the lab's bridge does not forward.
    SetCuts {
        cuts: BTreeSet<Cut>,
    },
    /// Takes the carrier from a running domain's network card, or gives it back.
    SetLink {
        domain: Name,
        link: Link,
    },
    /// Replaces how a guest shapes what it sends to others, now and after it reboots.
    Shape {
        domain: Name,
        address: Ipv4Addr,
        routes: Vec<Route>,
    },
    /// Limits how fast a disk of a domain's process is, or lifts the limit.
    Throttle {
        domain: Name,
        /// By its serial number.
        disk: String,
        limit: Throttle,
    },
    /// Replaces what disturbs a guest from within, now and after it reboots.
    Disturb {
        domain: Name,
        by: Disturbance,
    },
    /// Makes a guest's kernel panic.
    Panic {
        domain: Name,
    },
    /// Ends a service in its guest, or starts it again.
    SetService {
        domain: Name,
        order: ServiceOrder,
    },
    StopLab,
    /// Stops the relay of a URI's published ports; a lab's supervisor publishes its own.
    StopRelay,
    /// Removes the lab's definitions, logs and sockets.
    RemoveLab,
    /// Trims a running guest's disks, so that deleted files are not packed; a guest that does not answer is packed as it is.
    Tidy {
        domain: Name,
        /// Deletes caches and old logs first.
        clean: bool,
    },
    /// Stops the virtual CPUs of a running domain, until [`Action::Resume`].
    Pause {
        domain: Name,
    },
    /// Freezes the disks of a domain that has a process, which writes to overlays until [`Action::MergeSnapshot`].
    Snapshot {
        domain: Name,
    },
    /// Writes the archive; it appears complete or not at all.
    Pack {
        archive: PathBuf,
        existing: Existing,
        flatten: bool,
        with_secrets: bool,
        /// What is packed; the current state if there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        snapshot: Option<Name>,
    },
    /// Checks all of an archive, and puts its disks into the state directory and its topology into `folder`.
    Place {
        archive: PathBuf,
        folder: PathBuf,
    },
    /// Merges the overlays of this plan's [`Action::Snapshot`] into the domain's disks.
    MergeSnapshot {
        domain: Name,
    },
    /// Makes the folder of a snapshot of the deployment.
    BeginSnapshot {
        snapshot: Name,
    },
    /// Makes an empty layer over each disk of a domain, which is not written yet.
    AddLayers {
        domain: Name,
    },
    /// Saves what a domain is at this instant: its disks are frozen, and from now on it writes to the new layers.
    TakeSnapshot {
        domain: Name,
        snapshot: Name,
        of: SnapshotOf,
    },
    /// Records what [`Action::TakeSnapshot`] saved: from then on the snapshot exists.
    RecordSnapshot {
        snapshot: Name,
        note: String,
    },
    /// Puts the disks and the memory of a snapshot in place of the current ones; nothing runs.
    Rewind {
        snapshot: Name,
        /// Leave the memory out; the guests boot from the disks.
        disk_only: bool,
    },
    /// Removes a snapshot, and merges the layers that only it needed.
    RemoveSnapshot {
        snapshot: Name,
    },
}

/// What saved memory is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SavedMachine {
    /// The digest of its definition.
    pub definition: Digest,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
}

/// What a snapshot has of a domain beside its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotOf {
    /// Its process runs, and its memory is saved.
    Memory(SavedMachine),
    /// Its process runs, and only its disks are saved, as after a power cut.
    Running,
    /// It is off, and its memory was saved before.
    SavedMemory,
    Off,
}

impl SnapshotOf {
    /// Whether a process has its disks open.
    pub fn has_process(&self) -> bool {
        matches!(self, SnapshotOf::Memory(_) | SnapshotOf::Running)
    }
}

/// What a guest's systemd does to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceOrder {
    /// Sends SIGKILL.
    Kill,
    Stop,
    Start,
}

/// Whether a network card has a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    Up,
    Down,
}

/// What happens to an existing file of the archive's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    Refuse,
    Replace,
}

/// What a start does with the memory that a managed save left. Memory that pspd saved is discarded by every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedState {
    /// Restores it where there is one.
    Restore,
    /// Discards it: it is of another definition.
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopMode {
    /// Presses the power button, and forces the domain off if it does not react.
    Shutdown,
    /// Forces it off at once: its guest cannot react.
    Force,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub id: StepId,
    #[serde(flatten)]
    pub action: Action,
    /// The steps that must have ended well before.
    pub after: Vec<StepId>,
    pub reason: String,
}

/// Steps in an order that respects their edges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What a user should know that no step does, such as a change that waits for the next start.
    pub notes: Vec<String>,
    /// Not printed: a plan that people read is always one of `up`.
    #[serde(skip)]
    pub undo: Undo,
}

/// When a run takes back what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undo {
    /// A failed run keeps what it has: the next one continues from there.
    #[default]
    WhenCancelled,
    /// What the steps did was for this run alone, such as paused guests.
    WhenNotSuccessful,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

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
            Action::BeginSnapshot { .. } => StepId::BeginSnapshot,
            Action::AddLayers { domain } => of(domain, DomainStep::AddLayers),
            Action::TakeSnapshot { domain, .. } => of(domain, DomainStep::TakeSnapshot),
            Action::RecordSnapshot { .. } => StepId::RecordSnapshot,
            Action::Rewind { .. } => StepId::Rewind,
            Action::RemoveSnapshot { snapshot } => StepId::RemoveSnapshot(snapshot.clone()),
        }
    }

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
                "send to all guests without delay".into()
            }
            Action::Shape { routes, .. } => match routes.len() {
                1 => "delay what it sends to another guest".into(),
                count => format!("delay what it sends to {count} guests"),
            },
            Action::Throttle { disk, limit, .. } if limit.is_none() => {
                format!("let its disk `{disk}` be fast")
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
            Action::BeginSnapshot { .. } => "make the folder of the snapshot".into(),
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
                format!("put the disks{memory} of `{snapshot}` in place")
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
        "end what disturbs it from within".into()
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

impl Step {
    /// The domain that the step is about, if it is about one.
    pub fn subject(&self) -> Option<&Name> {
        match &self.id {
            StepId::Domain(name, _) => Some(name),
            _ => None,
        }
    }

    pub fn title(&self) -> String {
        self.action.title()
    }
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
