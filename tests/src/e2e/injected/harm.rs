//! A slow, full and failing disk, a clock that is set off, and burnt processors: they act, and do so again after the guest `b` was
//! started again.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use pspd_tests::deployment::Deployment;
use serde_json::json;

/// The faults that [`begin`] leaves, in the order of `status`.
pub(super) const IDS: [&str; 4] = ["clock-1", "cpu-1", "disk-1", "disk-2"];

fn inject(deployment: &Deployment, args: &[&str]) -> anyhow::Result<()> {
    let args: Vec<&str> = std::iter::once("fault")
        .chain(args.iter().copied())
        .collect();
    deployment.run(&args)?.expect(0).map(drop)
}

pub(super) fn begin(deployment: &Deployment) -> anyhow::Result<()> {
    deployment
        .run(&["fault", "disk", "b", "other", "--full"])?
        .expect(1)?
        .says("domain `b` has no disk `other`: expected one of: system, data")?;
    deployment.ssh("b", "echo kept >/srv/data/kept")?;
    inject(deployment, &["disk", "b", "data", "--slow", "16KiB/s"])?;
    inject(deployment, &["clock", "b", "--skew", "+20m"])?;
    inject(deployment, &["cpu", "b", "--burn", "50%"])?;
    inject(deployment, &["disk", "b", "data", "--full"])?;
    act(deployment)
}

/// All that [`begin`] left acts.
fn act(deployment: &Deployment) -> anyhow::Result<()> {
    let seen = Seen::of(deployment)?;
    ensure!(seen.took > 3.0, "{seen:?}: the disk is fast");
    ensure!((seen.ahead - 1200).abs() <= 30, "{seen:?}");
    ensure!((0.3..0.7).contains(&seen.burnt), "{seen:?}");
    ensure!(seen.data.contains("No space left on device"), "{seen:?}");
    ensure!(seen.system.contains("1+0 records out"), "{seen:?}");
    let status = deployment.status()?;
    ensure!(status["healthy"] == json!(true), "{status}");
    Ok(())
}

pub(super) fn end(deployment: &Deployment) -> anyhow::Result<()> {
    act(deployment)?;
    inject(deployment, &["disk", "b", "data", "--fail"])?;
    inject(deployment, &["disk", "b", "system", "--full"])?;
    let seen = Seen::of(deployment)?;
    ensure!(seen.data.contains("Input/output error"), "{seen:?}");
    ensure!(seen.system.contains("No space left on device"), "{seen:?}");
    deployment.run(&["heal"])?.expect(0)?;
    let seen = Seen::of(deployment)?;
    ensure!(seen.took < 2.0, "{seen:?}: the disk is slow");
    ensure!(seen.ahead.abs() <= 30, "{seen:?}");
    ensure!(seen.burnt == 0.0, "{seen:?}");
    for disk in [&seen.data, &seen.system] {
        ensure!(disk.contains("1+0 records out"), "{seen:?}");
    }
    let left = deployment.ssh(
        "b",
        "cat /srv/data/kept; ls -A /srv/data /etc/systemd/system; systemctl list-units 'pspd-*'",
    )?;
    let own = left.replace("pspd-volumes.service", "");
    ensure!(
        own.starts_with("kept\n") && !own.contains("pspd-"),
        "{left}"
    );
    Ok(())
}

/// What the guest `b` sees of faults.
#[derive(Debug)]
struct Seen {
    /// The time that it takes to read 64 KiB of the data volume, in seconds.
    took: f64,
    /// How far the clock is ahead, in seconds.
    ahead: i64,
    /// How much of one processor `pspd-burn` uses within two seconds.
    burnt: f64,
    /// What is said of a file that gets space on the data volume.
    data: String,
    /// The same of the system disk.
    system: String,
}

const LOOK: &str = r#"
used() { sed -n 's/^usage_usec //p' /sys/fs/cgroup/system.slice/pspd-burn.service/cpu.stat 2>/dev/null || echo 0; }
device=$(sed -n 's|^\(/dev/[a-z]*\) /srv/data .*|\1|p' /proc/mounts)
read -r began _ </proc/uptime
dd if=$device of=/dev/null bs=4096 count=16 iflag=direct 2>/dev/null
read -r ended _ </proc/uptime
before=$(used); sleep 2; after=$(used)
echo $began $ended $((${after:-0} - ${before:-0})) $(date +%s)
for folder in /srv/data /root; do
    echo $(dd if=/dev/zero of=$folder/probe bs=4096 count=1 conv=fsync 2>&1)
    rm -f $folder/probe 2>/dev/null
done"#;

impl Seen {
    fn of(deployment: &Deployment) -> anyhow::Result<Seen> {
        let text = deployment.ssh("b", LOOK)?;
        let lines: Vec<&str> = text.lines().collect();
        let [numbers, data, system] = lines[..] else {
            bail!("the guest says `{text}`");
        };
        let numbers = numbers.split_whitespace().map(str::parse);
        let numbers: Vec<f64> = numbers.collect::<Result<_, _>>()?;
        let [began, ended, used, date] = numbers[..] else {
            bail!("the guest says `{text}`");
        };
        let host = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Seen {
            took: ended - began,
            ahead: (date - host.as_secs_f64()) as i64,
            burnt: used / 2e6,
            data: data.to_owned(),
            system: system.to_owned(),
        })
    }
}
