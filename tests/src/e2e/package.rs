//! The Debian package, in new roots of the releases that it is for.

use std::process::Command;

use anyhow::ensure;
use pspd_tests::process::output;
use pspd_tests::root;
use pspd_tests::scenario::{Scenario, minutes, root as is_root};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("the package on Debian 12", minutes(20), || {
        installed("bookworm")
    })
    .needs(is_root),
    Scenario::new("the package on Debian 13", minutes(20), || {
        installed("trixie")
    })
    .needs(is_root),
];

/// The package without its dependencies.
const LARGEST: u64 = 20_000_000;

fn installed(suite: &str) -> anyhow::Result<()> {
    let size = root().join("target/pspd.deb").metadata()?.len();
    ensure!(size <= LARGEST, "the package has {size} bytes");
    let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
    let mut test = Command::new(root().join("tests/package"));
    output(test.arg(suite).arg(folder.path())).map(drop)
}
