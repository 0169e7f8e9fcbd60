//! The start of pspd while nothing else runs, and the commands that look, on a running deployment of three domains.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;

use super::{median, say};

const RUNS: u32 = 20;

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::reference()?;
    runs(&deployment, "--version")?;
    deployment.run(&["up"])?.expect(0)?;
    for command in ["plan", "status"] {
        runs(&deployment, command)?;
    }
    deployment.remove()
}

fn runs(deployment: &Deployment, command: &str) -> anyhow::Result<()> {
    let before = processor()?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let mut pspd = deployment.command([command]);
        pspd.stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let status = pspd.status()?;
        runs.push(began.elapsed());
        ensure!(status.success(), "`pspd {command}` failed");
    }
    let own = (processor()? - before) / RUNS;
    say(&format!(
        "pspd {command}: median {:.1} ms, {:.1} ms of processor, {RUNS} runs",
        1e3 * median(&runs),
        1e3 * own.as_secs_f64(),
    ));
    Ok(())
}

/// The processor time of all children that ended, in the kernel's hundredths of a second: proc(5).
fn processor() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no fields")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .context("a field")?
            .parse::<u64>()
            .context("ticks")
    };
    Ok(Duration::from_millis(10 * (ticks(13)? + ticks(14)?)))
}
