//! `pspd bench protocol`: its tables, between two guests and on loopback.

use std::process::Command;

use pspd_tests::process::output;
use pspd_tests::{pspd, root};

use super::say;

pub(crate) fn measure() -> anyhow::Result<()> {
    for more in [&[][..], &["--loopback"]] {
        let mut bench = Command::new(pspd());
        bench.args(["bench", "protocol"]).args(more);
        say(&output(bench.current_dir(root()))?);
    }
    Ok(())
}
