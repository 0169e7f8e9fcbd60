//! What a step is called. Ids are values: only [`Display`](fmt::Display) turns them into text, and nothing parses it back.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize, Serializer};

use super::values::Meeting;
use crate::observed::CertificateOwner;
use crate::spec::{Digest, Name};

/// A step's identity: unique in a plan, and stable between runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepId {
    CreateKeys,
    RenewCertificate(CertificateOwner),
    RecordIntent,
    StartLab,
    StopLab,
    RemoveLab,
    StopRelay,
    Image(String),
    Rom(Digest),
    DefineNetwork,
    StartNetwork,
    NetworkAutostart,
    RestoreDns,
    StopNetwork,
    UndefineNetwork,
    SetCuts,
    Unpublish(SocketAddr),
    /// By the file's name.
    DeleteVolume(String),
    Pack,
    Place,
    /// With the other hosts.
    Meet(Meeting),
    BeginSnapshot,
    RecordSnapshot,
    Rewind,
    RemoveSnapshot(Name),
    Domain(Name, DomainStep),
}

/// What is done to one domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainStep {
    Resume,
    Wake,
    Merge,
    Gather,
    Stop,
    Undefine,
    DeleteDisk,
    CreateDisk,
    GrowDisk,
    /// Creates or grows the data volume of this name.
    Volume(Name),
    /// Gives the file of the data volume of this name its current name.
    RenameVolume(Name),
    Define,
    Autostart,
    Resize,
    Start,
    Restart,
    Save,
    Restore,
    /// Lets the virtual CPUs of a restored domain run.
    Continue,
    SetClock,
    Reach,
    FileSystems,
    Push,
    Activate,
    Renew,
    Healthy,
    Serving,
    Withdraw,
    Publish(SocketAddr),
    SetLink,
    Shape,
    /// Limits how fast the disk of this serial number is.
    Throttle(String),
    Disturb,
    Panic,
    SetService,
    Tidy,
    Pause,
    Snapshot,
    MergeSnapshot,
    AddLayers,
    TakeSnapshot,
}

/// The part of a run that a step belongs to, as the summary counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Everything before the guest runs, and after it stopped.
    Prepare,
    Boot,
    Push,
    Activate,
    Healthy,
}

impl Phase {
    pub const ALL: [Phase; 5] = [
        Phase::Prepare,
        Phase::Boot,
        Phase::Push,
        Phase::Activate,
        Phase::Healthy,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Boot => "boot",
            Phase::Push => "push",
            Phase::Activate => "activate",
            Phase::Healthy => "healthy",
        }
    }
}

impl StepId {
    pub fn of(domain: &Name, step: DomainStep) -> StepId {
        StepId::Domain(domain.clone(), step)
    }

    pub fn phase(&self) -> Phase {
        match self {
            StepId::Domain(_, step) => step.phase(),
            StepId::CreateKeys
            | StepId::RenewCertificate(_)
            | StepId::RecordIntent
            | StepId::StartLab
            | StepId::StopLab
            | StepId::RemoveLab
            | StepId::StopRelay
            | StepId::Image(_)
            | StepId::Rom(_)
            | StepId::DefineNetwork
            | StepId::StartNetwork
            | StepId::NetworkAutostart
            | StepId::RestoreDns
            | StepId::StopNetwork
            | StepId::UndefineNetwork
            | StepId::SetCuts
            | StepId::Unpublish(_)
            | StepId::DeleteVolume(_)
            | StepId::Pack
            | StepId::Place
            | StepId::Meet(_)
            | StepId::BeginSnapshot
            | StepId::RecordSnapshot
            | StepId::Rewind
            | StepId::RemoveSnapshot(_) => Phase::Prepare,
        }
    }
}

impl DomainStep {
    fn phase(&self) -> Phase {
        match self {
            DomainStep::Reach => Phase::Boot,
            DomainStep::Push => Phase::Push,
            DomainStep::Activate | DomainStep::Renew | DomainStep::Withdraw => Phase::Activate,
            DomainStep::Healthy | DomainStep::Serving => Phase::Healthy,
            DomainStep::Resume
            | DomainStep::Wake
            | DomainStep::Merge
            | DomainStep::Gather
            | DomainStep::Stop
            | DomainStep::Undefine
            | DomainStep::DeleteDisk
            | DomainStep::CreateDisk
            | DomainStep::GrowDisk
            | DomainStep::Volume(_)
            | DomainStep::RenameVolume(_)
            | DomainStep::Define
            | DomainStep::Autostart
            | DomainStep::Resize
            | DomainStep::Start
            | DomainStep::Restart
            | DomainStep::Save
            | DomainStep::Restore
            | DomainStep::Continue
            | DomainStep::SetClock
            | DomainStep::FileSystems
            | DomainStep::Publish(_)
            | DomainStep::SetLink
            | DomainStep::Shape
            | DomainStep::Throttle(_)
            | DomainStep::Disturb
            | DomainStep::Panic
            | DomainStep::SetService
            | DomainStep::Tidy
            | DomainStep::Pause
            | DomainStep::Snapshot
            | DomainStep::MergeSnapshot
            | DomainStep::AddLayers
            | DomainStep::TakeSnapshot => Phase::Prepare,
        }
    }
}

/// What the text of an id starts with where it is not a domain's name. Domains with such a name get a prefix.
const SUBJECTS: [&str; 15] = [
    "archive",
    "certificate",
    "delete-volume",
    "domain",
    "hosts",
    "image",
    "intent",
    "keys",
    "lab",
    "network",
    "relay",
    "remove-snapshot",
    "rom",
    "snapshot",
    "unpublish",
];

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepId::CreateKeys => f.write_str("keys/create"),
            StepId::RenewCertificate(owner) => write!(f, "certificate/{owner}"),
            StepId::RecordIntent => f.write_str("intent/record"),
            StepId::StartLab => f.write_str("lab/start"),
            StepId::StopLab => f.write_str("lab/stop"),
            StepId::RemoveLab => f.write_str("lab/remove"),
            StepId::StopRelay => f.write_str("relay/stop"),
            StepId::Image(name) => write!(f, "image/{name}"),
            StepId::Rom(digest) => write!(f, "rom/{}", digest.short()),
            StepId::DefineNetwork => f.write_str("network/define"),
            StepId::StartNetwork => f.write_str("network/start"),
            StepId::NetworkAutostart => f.write_str("network/autostart"),
            StepId::RestoreDns => f.write_str("network/dns"),
            StepId::StopNetwork => f.write_str("network/stop"),
            StepId::UndefineNetwork => f.write_str("network/undefine"),
            StepId::SetCuts => f.write_str("network/cuts"),
            StepId::Unpublish(host) => write!(f, "unpublish/{host}"),
            StepId::DeleteVolume(file) => write!(f, "delete-volume/{file}"),
            StepId::Pack => f.write_str("archive/export"),
            StepId::Place => f.write_str("archive/import"),
            StepId::Meet(Meeting::Ready) => f.write_str("hosts/ready"),
            StepId::Meet(Meeting::Paused) => f.write_str("hosts/paused"),
            StepId::Meet(Meeting::Saved) => f.write_str("hosts/saved"),
            StepId::BeginSnapshot => f.write_str("snapshot/begin"),
            StepId::RecordSnapshot => f.write_str("snapshot/record"),
            StepId::Rewind => f.write_str("snapshot/rewind"),
            StepId::RemoveSnapshot(name) => write!(f, "remove-snapshot/{name}"),
            StepId::Domain(name, step) if SUBJECTS.contains(&name.as_str()) => {
                write!(f, "domain/{name}/{step}")
            }
            StepId::Domain(name, step) => write!(f, "{name}/{step}"),
        }
    }
}

impl fmt::Display for DomainStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainStep::Resume => f.write_str("resume"),
            DomainStep::Wake => f.write_str("wake"),
            DomainStep::Merge => f.write_str("merge"),
            DomainStep::Gather => f.write_str("gather"),
            DomainStep::Stop => f.write_str("stop"),
            DomainStep::Undefine => f.write_str("undefine"),
            DomainStep::DeleteDisk => f.write_str("delete-disk"),
            DomainStep::CreateDisk => f.write_str("disk"),
            DomainStep::GrowDisk => f.write_str("grow-disk"),
            DomainStep::Volume(name) => write!(f, "volume/{name}"),
            DomainStep::RenameVolume(name) => write!(f, "rename-volume/{name}"),
            DomainStep::Define => f.write_str("define"),
            DomainStep::Autostart => f.write_str("autostart"),
            DomainStep::Resize => f.write_str("resize"),
            DomainStep::Start => f.write_str("start"),
            DomainStep::Restart => f.write_str("restart"),
            DomainStep::Save => f.write_str("save"),
            DomainStep::Restore => f.write_str("restore"),
            DomainStep::Continue => f.write_str("continue"),
            DomainStep::SetClock => f.write_str("clock"),
            DomainStep::Reach => f.write_str("reach"),
            DomainStep::FileSystems => f.write_str("file-systems"),
            DomainStep::Push => f.write_str("push"),
            DomainStep::Activate => f.write_str("activate"),
            DomainStep::Renew => f.write_str("renew"),
            DomainStep::Healthy => f.write_str("healthy"),
            DomainStep::Serving => f.write_str("serving"),
            DomainStep::Withdraw => f.write_str("withdraw"),
            DomainStep::Publish(host) => write!(f, "publish/{host}"),
            DomainStep::SetLink => f.write_str("link"),
            DomainStep::Shape => f.write_str("shape"),
            DomainStep::Throttle(disk) => write!(f, "throttle/{disk}"),
            DomainStep::Disturb => f.write_str("disturb"),
            DomainStep::Panic => f.write_str("panic"),
            DomainStep::SetService => f.write_str("service"),
            DomainStep::Tidy => f.write_str("trim"),
            DomainStep::Pause => f.write_str("pause"),
            DomainStep::Snapshot => f.write_str("snapshot"),
            DomainStep::MergeSnapshot => f.write_str("merge-snapshot"),
            DomainStep::AddLayers => f.write_str("layers"),
            DomainStep::TakeSnapshot => f.write_str("take-snapshot"),
        }
    }
}

impl Serialize for StepId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_of_any_name_has_ids_of_its_own() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let others = [
            StepId::CreateKeys,
            StepId::RenewCertificate(CertificateOwner::Client),
            StepId::RenewCertificate(CertificateOwner::Front(address)),
            StepId::RecordIntent,
            StepId::StartLab,
            StepId::StopLab,
            StepId::RemoveLab,
            StepId::StopRelay,
            StepId::Image("define".into()),
            StepId::Rom(Digest::of(b"")),
            StepId::DefineNetwork,
            StepId::StartNetwork,
            StepId::NetworkAutostart,
            StepId::StopNetwork,
            StepId::UndefineNetwork,
            StepId::SetCuts,
            StepId::Unpublish(address),
            StepId::DeleteVolume("a.b.qcow2".into()),
            StepId::Pack,
            StepId::Place,
            StepId::Meet(Meeting::Paused),
            StepId::BeginSnapshot,
            StepId::RecordSnapshot,
            StepId::Rewind,
            StepId::RemoveSnapshot(Name::new("a").unwrap()),
        ];
        let subject = |id: &StepId| id.to_string().split('/').next().map(str::to_owned);
        for other in &others {
            let subject = subject(other).unwrap();
            let id = StepId::of(&Name::new(&subject).unwrap(), DomainStep::Start);
            assert_eq!(id.to_string(), format!("domain/{subject}/start"));
        }
        let domain = StepId::of(&Name::new("domain").unwrap(), DomainStep::Start);
        assert_eq!(domain.to_string(), "domain/domain/start");
        let web = StepId::of(&Name::new("web").unwrap(), DomainStep::Start);
        assert_eq!(web.to_string(), "web/start");
    }
}
