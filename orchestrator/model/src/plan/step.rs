//! A plan as plain data.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::id::StepId;
use super::values::{
    Existing, Link, Meeting, Readiness, SavedMachine, SavedState, ServiceOrder, SnapshotOf,
    StopMode,
};
use crate::definition::{Affect, DomainDefinition, NetworkDefinition};
use crate::fault::Cut;
use crate::harm::{Disturbance, Offset, Throttle};
use crate::intent::Intent;
use crate::observed::CertificateOwner;
use crate::publish::Target;
use crate::shape::Route;
use crate::spec::{Digest, Firmware, Name, Push, Range, Size, VolumeSpec};

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
    /// Copies a release's files into the guest, where nothing uses them yet, and runs the commands that prepare it.
    Push {
        domain: Name,
        /// `None` where its secrets are generated by this plan.
        release: Option<Digest>,
        push: Push,
        /// The default suits the accelerator.
        setup_timeout: Option<Duration>,
    },
    /// Switches to the release and starts it.
    Activate {
        domain: Name,
        release: Option<Digest>,
        /// Whether the service is restarted also where the release is in use: it was healthy and no longer is.
        restart: bool,
        /// Of the previous release, where this one cannot be started.
        #[serde(flatten)]
        readiness: Readiness,
    },
    /// Puts a renewed certificate into use while the service runs, and waits until the service uses it.
    Renew {
        domain: Name,
        /// For a service that must be restarted for it.
        #[serde(flatten)]
        readiness: Readiness,
    },
    /// Waits until the service is SERVING. If it does not get there, a release that was never healthy is rolled back; one
    /// that was is restarted.
    Healthy {
        domain: Name,
        release: Option<Digest>,
        #[serde(flatten)]
        readiness: Readiness,
    },
    /// Waits until the service that the guest has is SERVING, and changes nothing of it.
    Serving {
        domain: Name,
        #[serde(flatten)]
        readiness: Readiness,
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
    /// Waits until the other hosts are as far.
    Meet {
        when: Meeting,
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
