//! Proves whether KVM runs guests on this host; an openable `/dev/kvm` is no proof.

use std::path::Path;

use crate::image::DirectKernel;
use crate::spec::Accel;

/// What domains run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// The accelerator, and in one line why it is that one.
#[derive(Clone, Debug)]
pub struct Proof {
    pub accelerator: Accelerator,
    pub reason: String,
}

/// Decides by `wanted`; for `auto`, boots `kernel` under KVM with a short deadline once per host boot, kernel and image.
pub fn decide(wanted: Accel, cache: &Path, kernel: Option<&DirectKernel>) -> anyhow::Result<Proof> {
    let _ = (wanted, cache, kernel);
    unimplemented!()
}
