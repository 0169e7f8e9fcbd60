//! Values of actions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{Digest, HealthCheck, Range, ServiceSpec, Size};

/// What a service is healthy by, and the time that it has for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub health: HealthCheck,
    /// The default suits the health check and the accelerator.
    pub start_timeout: Option<Duration>,
}

impl Readiness {
    pub(super) fn of(service: &ServiceSpec) -> Readiness {
        Readiness {
            health: service.health.clone(),
            start_timeout: service.start_timeout,
        }
    }
}

/// What saved memory is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SavedMachine {
    /// The digest of its definition.
    pub definition: Digest,
    pub memory: Range<Size>,
    pub vcpus: Range<u32>,
}

/// What the hosts of a deployment wait for together, so that a snapshot is of one instant on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meeting {
    /// All are ready to pause their domains.
    Ready,
    /// All domains are paused.
    Paused,
    /// All have their part of the snapshot.
    Saved,
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
