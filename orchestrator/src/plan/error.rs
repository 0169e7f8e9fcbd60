//! Why no plan can be made.

use crate::spec::Size;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "a {kind} named `{name}` is there already and does not belong to this deployment; rename one of them, or remove that one with virsh"
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
}
