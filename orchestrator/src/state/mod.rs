//! The files that pspd keeps on the host: where they are, the lock, the journal, what was deployed.

use std::path::PathBuf;

use crate::spec::Name;

/// Where pspd keeps files: `--state-dir`/`PSPD_STATE_DIR` and `--cache-dir`/`PSPD_CACHE_DIR`, or the platform's places.
#[derive(Clone, Debug)]
pub struct Paths {
    pub state: PathBuf,
    pub cache: PathBuf,
}

impl Paths {
    /// `deployments/NAME` under the state directory.
    pub fn deployment(&self, name: &Name) -> PathBuf {
        self.state.join("deployments").join(name.as_str())
    }
}
