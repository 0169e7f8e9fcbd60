//! A guest's clock against the host's.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::wait::eventually;

/// In seconds.
const TOLERATED: f64 = 0.2;
/// How often the guest is asked on one connection: the quickest answer counts.
const ASKED: usize = 20;

/// Waits until a guest's clock is the host's: after a pause, it takes a moment.
pub(crate) fn follows(deployment: &Deployment, domain: &str) -> anyhow::Result<()> {
    let mut seen = 0.0;
    let waited = eventually("the clock to be set", Duration::from_secs(30), || {
        seen = behind(deployment, domain)?;
        Ok(seen.abs() <= TOLERATED)
    });
    waited.with_context(|| format!("the clock of `{domain}` is {seen:.3} s behind"))
}

/// How far a guest's clock is behind the host's, in seconds; what its quickest answer takes counts as behind.
fn behind(deployment: &Deployment, domain: &str) -> anyhow::Result<f64> {
    let script =
        format!("i=0; while [ $i -lt {ASKED} ]; do date +%s.%N; sleep 0.1; i=$((i+1)); done");
    let mut command = deployment.command(["ssh", domain, "--", "sh", "-c", &script]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let out = BufReader::new(child.stdout.take().context("no output")?);
    let mut least: Option<f64> = None;
    for line in out.lines() {
        let guest: f64 = line?.trim().parse()?;
        let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        least = Some(least.map_or(host - guest, |least| least.min(host - guest)));
    }
    ensure!(child.wait()?.success(), "the guest did not answer");
    least.context("the guest said nothing")
}
