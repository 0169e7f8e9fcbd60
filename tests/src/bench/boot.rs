//! From a domain's start to its SSH banner, against the minimum: the same kernel and initramfs, whose init only brings
//! the network up and answers on the same port (`pspd.floor=1` on its command line).

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_lab::Lab;
use pspd_tests::deployment::Deployment;

use super::{row, say};

const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::single("    address: 10.77.0.10\n")?;
    deployment.run(&["up"])?.expect(0)?;
    let virsh = |args: &[&str]| {
        deployment
            .run(&[&["lab", "exec", "--", "virsh"], args].concat())?
            .expect(0)
    };
    let image = virsh(&["dumpxml", "--inactive", "--security-info", "store"])?.stdout;
    ensure!(
        image.contains("</cmdline>"),
        "the domain is not booted by a kernel"
    );
    let floor = image.replace("</cmdline>", " pspd.floor=1</cmdline>");
    let files = [
        deployment.folder().join("floor.xml"),
        deployment.folder().join("image.xml"),
    ];
    fs::write(&files[0], floor)?;
    fs::write(&files[1], image)?;

    let lab = Lab::running(&deployment.home().join("lab"))?.context("the lab runs")?;
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (file, runs) in files.iter().zip(&mut runs) {
            virsh(&["destroy", "store"])?;
            let began = Instant::now();
            virsh(&["create", &file.display().to_string()])?;
            banner(&lab, began)?;
            runs.push(began.elapsed());
        }
    }
    let floor = row("floor", &runs[0]);
    let image = row("image", &runs[1]);
    say(&format!("ratio of medians: {:.2}", image / floor));
    // Figures of the last boot, once it is complete.
    say(&deployment.ssh(
        "store",
        "until systemctl is-system-running --wait 2>/dev/null | grep -q running; do sleep 1; done; \
         systemd-analyze; systemd-analyze critical-chain --no-pager",
    )?);
    deployment.remove()
}

/// Waits until something answers on port 22 with an SSH banner.
fn banner(lab: &Lab, began: Instant) -> anyhow::Result<()> {
    let to = SocketAddr::from(([10, 77, 0, 10], 22));
    loop {
        ensure!(
            began.elapsed() < LIMIT,
            "timed out after {LIMIT:?} waiting for an SSH banner"
        );
        let Ok(mut stream) = lab.dial(to, Duration::from_millis(300)) else {
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut start = [0; 4];
        if stream.read_exact(&mut start).is_ok() && &start == b"SSH-" {
            return Ok(());
        }
    }
}
