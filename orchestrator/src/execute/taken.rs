//! What a snapshot has of a domain, before it is recorded.

use std::collections::BTreeMap;

use pspd_model::plan::SavedMachine;

use crate::state::MemoryImage;

pub(super) struct Taken {
    pub disks: BTreeMap<String, String>,
    pub memory: TakenMemory,
    pub runs: bool,
}

pub(super) enum TakenMemory {
    None,
    /// A file that was just written, whose digest is not known yet.
    Of(SavedMachine),
    Known(MemoryImage),
}
