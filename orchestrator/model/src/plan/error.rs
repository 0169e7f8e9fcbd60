//! Why no plan can be made.

use crate::spec::{Name, Size};

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
    #[error("`{deployment}` has no keys yet; run `pspd up` first")]
    NoKeys { deployment: Name },
    #[error("image `{image}` is no longer cached. Run `pspd up` to get it again")]
    NotCached { image: String },
    #[error(
        "an interrupted export left snapshots of `{domain}`, and the lab is not running. Run `pspd up` first"
    )]
    Unmerged { domain: Name },
}
