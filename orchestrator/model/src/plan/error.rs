//! Why no plan can be made.

use crate::observed::Power;
use crate::spec::{Connection, Name, Size, VolumeId};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "{kind} `{name}` already exists and is not managed by this deployment; rename one of them, or remove the existing one with virsh"
    )]
    Foreign { kind: &'static str, name: String },
    #[error(
        "the disk `{disk}` is {have} and cannot shrink to {want}; set its size back, or remove it with `pspd down --volumes`"
    )]
    Shrinks {
        disk: String,
        have: Size,
        want: Size,
    },
    #[error(
        "the system disk of `{domain}` has {have}, less than its image `{image}`; write `disks: {{system: {least}}}` or more"
    )]
    SmallerThanImage {
        domain: String,
        have: Size,
        image: String,
        least: Size,
    },
    #[error("process {pid} of domain `{domain}` is stopped. Run `kill -CONT {pid}` to continue it")]
    ProcessStopped { domain: Name, pid: u32 },
    #[error("`{deployment}` is not up. Run `pspd up` to start it")]
    NotUp { deployment: Name },
    #[error("domain `{domain}` is not defined. Run `pspd up` to create it")]
    NotDefined { domain: Name },
    #[error("domain `{domain}` is not running: it is {}. {}", .power.word(), to_run(*.saved || *.power == Power::Saved))]
    NotRunning {
        domain: Name,
        power: Power,
        saved: bool,
    },
    #[error(
        "the fault `{fault}` controls the power of `{domain}`. Run `pspd heal {fault}` to end it"
    )]
    Faulty { domain: Name, fault: Name },
    #[error("domain `{domain}` is running. Run `pspd stop {domain}` first")]
    Running { domain: Name },
    #[error("no memory of domain `{domain}` is saved. Run `pspd start {domain}` to boot it")]
    NotSaved { domain: Name },
    #[error("no domain of `{deployment}` has saved memory. Run `pspd start` to boot them")]
    NothingSaved { deployment: Name },
    #[error(
        "the saved memory of `{domain}` cannot be restored: {problem}. Run `pspd start {domain}` to boot it without that memory"
    )]
    Unusable { domain: Name, problem: &'static str },
    #[error("{asked} is not enough memory for `{domain}`; use at least {least}")]
    TooLittle {
        domain: Name,
        asked: Size,
        least: Size,
    },
    #[error(
        "`{domain}` can have at most {maximum}, not {asked}. Raise its maximum in the topology, and run `pspd up`"
    )]
    OverMaximum {
        domain: Name,
        asked: String,
        maximum: String,
    },
    #[error("`{deployment}` has no keys yet; run `pspd up` first")]
    NoKeys { deployment: Name },
    #[error("image `{image}` is no longer cached. Run `pspd up` to get it again")]
    NotCached { image: String },
    #[error(
        "an interrupted export left snapshots of `{domain}`, and the lab is not running. Run `pspd up` first"
    )]
    Unmerged { domain: Name },
    #[error(
        "the data volume file `{file}` may belong to `{}` or `{}`. Rename it to `{}` or to `{}` in the deployment's folder `volumes`",
        .one.domain, .other.domain, .one.file(), .other.file()
    )]
    UnclearVolume {
        file: String,
        one: VolumeId,
        other: VolumeId,
    },
    #[error(
        "the data volume `{file}` has a name of an earlier version; run `pspd up` first, which renames it"
    )]
    OldVolume { file: String },
    #[error(
        "the file of the data volume `{file}` is missing, but the running domain `{domain}` still writes to it. Its data ends with the domain: copy it from the guest first. Then run `pspd down`, and `pspd up` for an empty volume"
    )]
    VolumeGone { domain: Name, file: String },
    #[error(
        "a disk of the running domain `{domain}` was replaced or removed. Run `pspd up` first, which restarts the domain"
    )]
    DiskReplaced { domain: Name },
    #[error(
        "the system disk of `{domain}` is based on another image than the cached one. Run `pspd up` first, which replaces the disk"
    )]
    OtherBase { domain: Name },
    #[error(
        "`{domain}` is not running, but this fault needs a running domain. Run `pspd up` to start it"
    )]
    NeedsRunning { domain: Name },
    #[error(
        "this fault needs a lab, and the domains of `{deployment}` run on `{connection}`. Set `connection: lab` in the topology"
    )]
    NeedsLab {
        deployment: Name,
        connection: Connection,
    },
    #[error("`{domain}` is on both sides; name two different domains")]
    OneDomain { domain: Name },
    #[error(
        "the network link of `{domain}` is down, so pspd cannot reach it. Run `pspd heal` for that fault first"
    )]
    Unplugged { domain: Name },
    #[error("`{domain}` already has {most} different delays, and cannot have more")]
    TooManyDelays { domain: Name, most: usize },
    #[error("`{domain}` delays what it sends, and the archive would too. Run `pspd heal` first")]
    Delayed { domain: Name },
    #[error(
        "a fault is active in the guest `{domain}`, and the archive would include it. Run `pspd heal` first"
    )]
    Disturbed { domain: Name },
    #[error(
        "the system disk of `{domain}` cannot fail: pspd could not reach the guest to heal it. Name a data volume, or use `--slow` or `--full`"
    )]
    SystemDiskFails { domain: Name },
    #[error("`{domain}` has no service")]
    NoService { domain: Name },
    #[error("`{domain}` has only {has} of memory; name a smaller size")]
    MoreMemory { domain: Name, has: Size },
    #[error(
        "the snapshot `{snapshot}` already exists. Choose another name, or remove it with `pspd snapshot rm {snapshot}`"
    )]
    SnapshotExists { snapshot: Name },
    #[error(
        "the fault `{fault}` is active, and a snapshot would keep a part of it. Run `pspd heal` first"
    )]
    FaultActive { fault: Name },
    #[error("no fault has the id `{id}`. Active: {active}")]
    UnknownFault { id: Name, active: String },
}

fn to_run(saved: bool) -> &'static str {
    if saved {
        "Run `pspd restore` to continue it"
    } else {
        "Run `pspd start` to start it"
    }
}
