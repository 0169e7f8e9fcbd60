//! Why no plan can be made.

use crate::spec::{Name, Size, VolumeId};

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
    #[error("process {pid} of domain `{domain}` is stopped. Run `kill -CONT {pid}` to continue it")]
    ProcessStopped { domain: Name, pid: u32 },
    #[error("`{deployment}` has no keys yet; run `pspd up` first")]
    NoKeys { deployment: Name },
    #[error("image `{image}` is no longer cached. Run `pspd up` to get it again")]
    NotCached { image: String },
    #[error(
        "an interrupted export left snapshots of `{domain}`, and the lab is not running. Run `pspd up` first"
    )]
    Unmerged { domain: Name },
    #[error(
        "the data volume `{file}` can be the one of `{}` or of `{}`; rename it to `{}` or to `{}` in the deployment's folder `volumes`",
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
}
