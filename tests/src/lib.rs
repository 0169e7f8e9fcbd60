//! What the end-to-end tests and the benchmarks share: the runner of scenarios, deployments of their own, servers on
//! loopback, processes, and waiting.

pub mod deployment;
pub mod loopback;
pub mod machine;
pub mod process;
pub mod runner;
pub mod scenario;
pub mod wait;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// The program under test: `PSPD`, else the release build.
pub fn pspd() -> PathBuf {
    std::env::var_os("PSPD").map_or_else(|| root().join("target/release/pspd"), PathBuf::from)
}
