//! A plan as plain data.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::spec::{Digest, Name, Range, Size};

/// What one step does, with every value that doing it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// `fresh`: none of its files are there.
    StartLab {
        fresh: bool,
    },
    /// Builds or fetches a key of the spec's images, where it is not cached.
    EnsureImage {
        image: String,
    },
    /// Builds the ROM that a domain's firmware is, where it is not cached; others may share it.
    EnsureRom {
        domain: Name,
        digest: Digest,
    },
    /// `fresh`: there is none that it replaces.
    DefineNetwork {
        digest: Digest,
        fresh: bool,
    },
    StartNetwork,
    StopNetwork,
    UndefineNetwork,
    /// Makes a domain's system disk, an overlay of its image.
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
    /// Makes an empty data volume, a file of the deployment's volumes folder.
    CreateVolume {
        domain: Name,
        file: String,
        size: Size,
    },
    GrowVolume {
        domain: Name,
        file: String,
        size: Size,
    },
    DeleteVolume {
        file: String,
    },
    /// `fresh`: there is none that it replaces.
    Define {
        domain: Name,
        digest: Digest,
        fresh: bool,
    },
    Start {
        domain: Name,
    },
    /// Lets the virtual CPUs of a paused domain go on.
    Resume {
        domain: Name,
    },
    /// Brings the overlays that an interrupted export left into the domain's disks.
    Merge {
        domain: Name,
    },
    Resize {
        domain: Name,
        memory: Range<Size>,
        vcpus: Range<u32>,
    },
    Stop {
        domain: Name,
    },
    Undefine {
        domain: Name,
    },
    /// Brings what a service logged to the host, where it outlives the guest.
    Gather {
        domain: Name,
    },
    /// Waits until the guest answers by SSH with its pinned host key.
    Reach {
        domain: Name,
    },
    /// Copies a release's files into the guest, where nothing uses them yet.
    Push {
        domain: Name,
        release: Digest,
    },
    /// Switches to the release and starts it.
    Activate {
        domain: Name,
        release: Digest,
    },
    /// Puts a renewed certificate into use while the service runs, and waits until it shows it.
    Renew {
        domain: Name,
        certificate: Digest,
    },
    /// Waits until the service is SERVING; rolls the release back if it does not get there.
    Healthy {
        domain: Name,
        release: Digest,
    },
    Publish {
        domain: Name,
        host: SocketAddr,
        guest: SocketAddr,
    },
    Unpublish {
        host: SocketAddr,
    },
    StopLab,
    /// Of a URI's published ports, which a lab's supervisor sees to itself.
    StopRelay,
    /// Removes the lab's definitions, logs and sockets.
    RemoveLab,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Stable between runs, such as `web-server/start`.
    pub id: String,
    #[serde(flatten)]
    pub action: Action,
    /// Ids of the steps that must have ended well before.
    pub after: Vec<String>,
    pub reason: String,
}

/// Steps in an order that respects their edges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What a user should know that no step does, such as a change that waits for the next start.
    pub notes: Vec<String>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step. Edges to steps that are not in the plan are dropped: what they would do is done.
    pub(super) fn push(
        &mut self,
        id: impl Into<String>,
        action: Action,
        after: &[String],
        reason: impl Into<String>,
    ) {
        let after = after
            .iter()
            .filter(|id| self.steps.iter().any(|step| step.id == **id))
            .cloned()
            .collect();
        self.steps.push(Step {
            id: id.into(),
            action,
            after,
            reason: reason.into(),
        });
    }
}

impl Step {
    /// The domain that the step is about, if it is about one.
    pub fn subject(&self) -> Option<&Name> {
        match &self.action {
            Action::CreateDisk { domain, .. }
            | Action::CreateVolume { domain, .. }
            | Action::GrowDisk { domain, .. }
            | Action::GrowVolume { domain, .. }
            | Action::DeleteDisk { domain }
            | Action::Define { domain, .. }
            | Action::Start { domain }
            | Action::Resume { domain }
            | Action::Merge { domain }
            | Action::Resize { domain, .. }
            | Action::Stop { domain }
            | Action::Undefine { domain }
            | Action::Reach { domain }
            | Action::Push { domain, .. }
            | Action::Activate { domain, .. }
            | Action::Healthy { domain, .. }
            | Action::Renew { domain, .. }
            | Action::Gather { domain }
            | Action::Publish { domain, .. } => Some(domain),
            Action::StartLab { .. }
            | Action::EnsureImage { .. }
            | Action::EnsureRom { .. }
            | Action::DefineNetwork { .. }
            | Action::StartNetwork
            | Action::StopNetwork
            | Action::UndefineNetwork
            | Action::DeleteVolume { .. }
            | Action::Unpublish { .. }
            | Action::StopLab
            | Action::StopRelay
            | Action::RemoveLab => None,
        }
    }

    /// What the step does, for people; the subject is named beside it.
    pub fn title(&self) -> String {
        match &self.action {
            Action::StartLab { .. } => "start the lab".into(),
            Action::EnsureImage { image } => format!("get the image `{image}`"),
            Action::EnsureRom { digest, .. } => format!("build the ROM {}", digest.short()),
            Action::DefineNetwork { .. } => "define the network".into(),
            Action::StartNetwork => "start the network".into(),
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
            Action::Define { .. } => "define".into(),
            Action::Start { .. } => "start".into(),
            Action::Resume { .. } => "resume".into(),
            Action::Merge { .. } => "merge the snapshot of its disks".into(),
            Action::Resize { memory, vcpus, .. } => {
                format!(
                    "set {} of {} and {} of {} vCPUs",
                    memory.current, memory.maximum, vcpus.current, vcpus.maximum
                )
            }
            Action::Stop { .. } => "shut down".into(),
            Action::Undefine { .. } => "undefine".into(),
            Action::Reach { .. } => "wait for SSH".into(),
            Action::Push { release, .. } => format!("push the release {}", release.short()),
            Action::Activate { release, .. } => format!("activate the release {}", release.short()),
            Action::Gather { .. } => "gather its log".into(),
            Action::Renew { .. } => "renew the certificate".into(),
            Action::Healthy { .. } => "wait until SERVING".into(),
            Action::Publish { host, guest, .. } => format!("publish {guest} on {host}"),
            Action::Unpublish { host } => format!("end publishing on {host}"),
            Action::StopLab => "stop the lab".into(),
            Action::StopRelay => "stop the relay of published ports".into(),
            Action::RemoveLab => "remove the lab's files".into(),
        }
    }
}
