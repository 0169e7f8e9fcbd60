//! Why no plan can be made, and what the user can do about it.

use std::borrow::Cow;

use crate::observed::Power;
use crate::spec::{Connection, Name, Size, VolumeId};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{kind} `{name}` already exists and is not managed by this deployment")]
    Foreign { kind: &'static str, name: String },
    #[error("the disk `{disk}` is {have} and cannot shrink to {want}")]
    Shrinks {
        disk: String,
        have: Size,
        want: Size,
    },
    #[error("the system disk of `{domain}` has {have}, less than its image `{image}`")]
    SmallerThanImage {
        domain: String,
        have: Size,
        image: String,
        least: Size,
    },
    #[error("process {pid} of domain `{domain}` is stopped")]
    ProcessStopped { domain: Name, pid: u32 },
    #[error("`{deployment}` is not up")]
    NotUp { deployment: Name },
    #[error("domain `{domain}` is not defined")]
    NotDefined { domain: Name },
    #[error("domain `{domain}` is not running: it is {}", .power.word())]
    NotRunning {
        domain: Name,
        power: Power,
        saved: bool,
    },
    #[error("the fault `{fault}` controls the power of `{domain}`")]
    Faulty { domain: Name, fault: Name },
    #[error("domain `{domain}` is running")]
    Running { domain: Name },
    #[error("no memory of domain `{domain}` is saved")]
    NotSaved { domain: Name },
    #[error("no domain of `{deployment}` has saved memory")]
    NothingSaved { deployment: Name },
    #[error("the saved memory of `{domain}` cannot be restored: {problem}")]
    Unusable { domain: Name, problem: &'static str },
    #[error("{asked} is not enough memory for `{domain}`")]
    TooLittle {
        domain: Name,
        asked: Size,
        least: Size,
    },
    #[error("`{domain}` can have at most {maximum}, not {asked}")]
    OverMaximum {
        domain: Name,
        asked: String,
        maximum: String,
    },
    #[error("`{deployment}` has no keys yet")]
    NoKeys { deployment: Name },
    #[error("image `{image}` is no longer cached")]
    NotCached { image: String },
    #[error("an interrupted export left snapshots of `{domain}`, and the lab is not running")]
    Unmerged { domain: Name },
    #[error(
        "the data volume file `{file}` may belong to `{}` or `{}`",
        .one.domain, .other.domain
    )]
    UnclearVolume {
        file: String,
        one: VolumeId,
        other: VolumeId,
    },
    #[error("the data volume `{file}` has a name of an earlier version")]
    OldVolume { file: String },
    #[error(
        "the file of the data volume `{file}` is missing, but the running domain `{domain}` still writes to it"
    )]
    VolumeGone { domain: Name, file: String },
    #[error(
        "another file was copied over that of the disk `{disk}`, but the running domain `{domain}` still writes to it"
    )]
    DiskOverwritten { domain: Name, disk: String },
    #[error("a disk of the running domain `{domain}` was replaced or removed")]
    DiskReplaced { domain: Name },
    #[error("the system disk of `{domain}` is based on another image than the cached one")]
    OtherBase { domain: Name },
    #[error("`{domain}` is not running, but this fault needs a running domain")]
    NeedsRunning { domain: Name },
    #[error("this fault needs a lab, and the domains of `{deployment}` run on `{connection}`")]
    NeedsLab {
        deployment: Name,
        connection: Connection,
    },
    #[error("`{domain}` is on both sides")]
    OneDomain { domain: Name },
    #[error("the network link of `{domain}` is down, so pspd cannot reach it")]
    Unplugged { domain: Name },
    #[error("`{domain}` already has {most} different delays, and cannot have more")]
    TooManyDelays { domain: Name, most: usize },
    #[error("`{domain}` delays what it sends, and the archive would too")]
    Delayed { domain: Name },
    #[error("a fault is active in the guest `{domain}`, and the archive would include it")]
    Disturbed { domain: Name },
    #[error("the system disk of `{domain}` cannot fail: pspd could not reach the guest to heal it")]
    SystemDiskFails { domain: Name },
    #[error("`{domain}` has no service")]
    NoService { domain: Name },
    #[error("`{domain}` has only {has} of memory")]
    MoreMemory { domain: Name, has: Size },
    #[error("the snapshot `{snapshot}` already exists")]
    SnapshotExists { snapshot: Name },
    #[error("the fault `{fault}` is active, and a snapshot would keep a part of it")]
    FaultActive { fault: Name },
    #[error("no fault has the id `{id}`. Active: {active}")]
    UnknownFault { id: Name, active: String },
}

impl PlanError {
    /// Returns what the user can do: one or more sentences, without the last full stop.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        use PlanError::*;
        Some(match self {
            Foreign { .. } => "Rename one of them, or remove the existing one with virsh".into(),
            Shrinks { .. } => "Set its size back, or remove it with `pspd down --volumes`".into(),
            SmallerThanImage { least, .. } => {
                format!("Write `disks: {{system: {least}}}` or more").into()
            }
            ProcessStopped { pid, .. } => format!("Run `kill -CONT {pid}` to continue it").into(),
            NotUp { .. } | NeedsRunning { .. } => "Run `pspd up` to start it".into(),
            NotDefined { .. } => "Run `pspd up` to create it".into(),
            NotRunning { power, saved, .. } if *saved || *power == Power::Saved => {
                "Run `pspd restore` to continue it".into()
            }
            NotRunning { .. } => "Run `pspd start` to start it".into(),
            Faulty { fault, .. } => format!("Run `pspd heal {fault}` to end it").into(),
            Running { domain } => format!("Run `pspd stop {domain}` first").into(),
            NotSaved { domain } => format!("Run `pspd start {domain}` to boot it").into(),
            NothingSaved { .. } => "Run `pspd start` to boot them".into(),
            Unusable { domain, .. } => {
                format!("Run `pspd start {domain}` to boot it without that memory").into()
            }
            TooLittle { least, .. } => format!("Use at least {least}").into(),
            OverMaximum { .. } => "Raise its maximum in the topology, and run `pspd up`".into(),
            NoKeys { .. } | Unmerged { .. } => "Run `pspd up` first".into(),
            NotCached { .. } => "Run `pspd up` to get it again".into(),
            UnclearVolume { one, other, .. } => {
                let [one, other] = [one, other].map(VolumeId::file);
                format!("Rename it to `{one}` or to `{other}` in the deployment's folder `volumes`")
                    .into()
            }
            OldVolume { .. } => "Run `pspd up` first, which renames it".into(),
            VolumeGone { .. } => {
                "Its data ends with the domain: copy it from the guest first. Then run `pspd down`, and `pspd up` for an \
                 empty volume"
                    .into()
            }
            DiskOverwritten { domain, .. } => format!(
                "It now has parts of both. Run `pspd stop --force {domain}`, put the backup in its place again, with `mv`, and run \
                 `pspd up`"
            )
            .into(),
            DiskReplaced { .. } => "Run `pspd up` first, which restarts the domain".into(),
            OtherBase { .. } => "Run `pspd up` first, which replaces the disk".into(),
            NeedsLab { .. } => "Set `connection: lab` in the topology".into(),
            OneDomain { .. } => "Name two different domains".into(),
            Unplugged { .. } => "Run `pspd heal` for that fault first".into(),
            Delayed { .. } | Disturbed { .. } | FaultActive { .. } => {
                "Run `pspd heal` first".into()
            }
            SystemDiskFails { .. } => "Name a data volume, or use `--slow` or `--full`".into(),
            MoreMemory { .. } => "Name a smaller size".into(),
            SnapshotExists { snapshot } => {
                format!("Choose another name, or remove it with `pspd snapshot rm {snapshot}`")
                    .into()
            }
            TooManyDelays { .. } | NoService { .. } | UnknownFault { .. } => return None,
        })
    }
}
