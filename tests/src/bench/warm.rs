//! `pspd up` after `pspd down --save`, against a cold `up` and against virsh alone.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use pspd::identity::Identity;
use pspd::state::Paths;
use pspd_tests::deployment::Deployment;

use super::up::serving;
use super::{row, say};

const RUNS: usize = 3;

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::reference()?;
    deployment.run(&["up"])?.expect(0)?;
    let [mut cold, mut warm, mut virsh] = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        deployment.run(&["down"])?.expect(0)?;
        cold.push(deployment.run(&["up"])?.expect(0)?.elapsed);
        deployment.run(&["down", "--save"])?.expect(0)?;
        warm.push(deployment.run(&["up"])?.expect(0)?.elapsed);
        deployment.run(&["save"])?.expect(0)?;
        virsh.push(restored(&deployment)?);
    }
    let cold = row("pspd up, cold", &cold);
    let warm = row("pspd up after pspd down --save", &warm);
    let virsh = row("virsh restore of the same memory, to SERVING", &virsh);
    say(&format!("of the cold one: {:.2}", warm / cold));
    say(&format!("of virsh's: {:.2}", warm / virsh));
    deployment.remove()
}

/// Restores all saved memory at once, and waits until each service is SERVING.
fn restored(deployment: &Deployment) -> anyhow::Result<Duration> {
    let paths = Paths::resolve(Some(deployment.state()), None)?;
    let spec = pspd::topology::load(&deployment.file)?;
    let home = paths.deployment(&spec.name);
    let identity = Identity::load(&home.keys())?.context("the deployment has no keys")?;
    let began = Instant::now();
    let script: String = spec
        .domains
        .keys()
        .map(|name| {
            let file = home.memory_file(name);
            format!("virsh restore --running {} >/dev/null & ", file.display())
        })
        .collect();
    let script = format!("{script} wait");
    let command = ["lab", "exec", "--", "sh", "-c", &script];
    deployment.run(&command)?.expect(0)?;
    for name in spec.domains.keys() {
        serving(&home, &spec, &identity, name)?;
    }
    Ok(began.elapsed())
}
