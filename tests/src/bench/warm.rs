//! `pspd up` after `pspd down --save`, and snapshots, against a cold `up` and against virsh alone.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pspd::identity::Identity;
use pspd::state::{Home, Paths};
use pspd_model::spec::{Name, Spec};
use pspd_tests::deployment::Deployment;

use super::up::serving;
use super::{row, say};

const RUNS: usize = 3;
/// How many snapshots of an idle system are counted.
const SNAPSHOTS: usize = 10;

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::reference()?;
    deployment.run(&["up"])?.expect(0)?;
    let bare = Bare::new(&deployment)?;
    let [mut cold, mut warm, mut restored] = [const { Vec::new() }; 3];
    let [mut paused, mut saved, mut rewound] = [const { Vec::new() }; 3];
    for run in 0..RUNS {
        deployment.run(&["down"])?.expect(0)?;
        cold.push(deployment.run(&["up"])?.expect(0)?.elapsed);
        deployment.run(&["down", "--save"])?.expect(0)?;
        warm.push(deployment.run(&["up"])?.expect(0)?.elapsed);
        saved.push(bare.save()?);
        restored.push(bare.restore()?);
        let name = format!("run-{run}");
        paused.push(pause(&deployment, &name)?);
        let rewind = ["snapshot", "restore", &name, "--discard"];
        rewound.push(deployment.run(&rewind)?.expect(0)?.elapsed);
    }
    let cold = row("pspd up, cold", &cold);
    let warm = row("pspd up after pspd down --save", &warm);
    let restored = row("virsh restore of such memory, to SERVING", &restored);
    say(&format!("of the cold one: {:.2}", warm / cold));
    say(&format!("of virsh's: {:.2}", warm / restored));
    let paused = row("pspd snapshot save: the guests are paused", &paused);
    let saved = row("virsh save of all at once", &saved);
    say(&format!("of virsh's: {:.2}", paused / saved));
    let rewound = row("pspd snapshot restore --discard, to SERVING", &rewound);
    say(&format!("of the warm start: {:.2}", rewound / warm));
    room(&deployment, &bare.home)?;
    deployment.remove()
}

/// Saves a snapshot, and returns how long the guests were paused: to a tenth of a second, as pspd prints it.
fn pause(deployment: &Deployment, name: &str) -> anyhow::Result<Duration> {
    let saved = deployment.run(&["snapshot", "save", name])?.expect(0)?;
    let time = saved.stderr.split_once("paused for ");
    let time = time.and_then(|(_, rest)| rest.split_once(" s")?.0.parse().ok());
    let time = time.with_context(|| format!("no time in: {}", saved.stderr))?;
    Ok(Duration::from_secs_f64(time))
}

/// What snapshots of an idle system take on the disk, of what their memory alone takes.
fn room(deployment: &Deployment, home: &Home) -> anyhow::Result<()> {
    let before = allocated(home.path())?;
    for number in 0..SNAPSHOTS {
        let name = format!("room-{number}");
        deployment.run(&["snapshot", "save", &name])?.expect(0)?;
    }
    let taken = allocated(home.path())? - before;
    let mut memory = 0;
    for number in 0..SNAPSHOTS {
        let name = Name::new(&format!("room-{number}"))?;
        for domain in DOMAINS {
            memory +=
                fs::metadata(home.snapshot_memory(&name, &Name::new(domain)?))?.blocks() * 512;
        }
    }
    say(&format!(
        "{SNAPSHOTS} snapshots: {} MiB, their memory {} MiB: {:.3}",
        taken >> 20,
        memory >> 20,
        taken as f64 / memory as f64
    ));
    Ok(())
}

const DOMAINS: [&str; 3] = ["ai-server", "database-server", "web-server"];

/// In bytes, of all files below a folder.
fn allocated(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sum += allocated(&entry.path())?;
        } else if kind.is_file() {
            sum += entry.metadata()?.blocks() * 512;
        }
    }
    Ok(sum)
}

/// The same by virsh alone.
struct Bare<'a> {
    deployment: &'a Deployment,
    spec: Spec,
    home: Home,
    identity: Identity,
}

impl Bare<'_> {
    fn new(deployment: &Deployment) -> anyhow::Result<Bare<'_>> {
        let paths = Paths::resolve(Some(deployment.state()), None)?;
        let spec = pspd::topology::load(&deployment.file)?;
        let home = paths.deployment(&spec.name);
        let identity = Identity::load(&home.keys())?.context("the deployment has no keys")?;
        Ok(Bare {
            deployment,
            spec,
            home,
            identity,
        })
    }

    fn file(&self, name: &Name) -> PathBuf {
        self.deployment.folder().join(format!("{name}.virsh"))
    }

    /// Runs a command of virsh for all domains at once.
    fn all(&self, command: impl Fn(&Name) -> String) -> anyhow::Result<()> {
        let commands = self.spec.domains.keys().map(|name| {
            let command = command(name);
            format!("virsh {command} >/dev/null & ")
        });
        let script = format!("{} wait", commands.collect::<String>());
        let command = ["lab", "exec", "--", "sh", "-c", &script];
        self.deployment.run(&command)?.expect(0).map(drop)
    }

    /// Saves the memory of all domains, which are paused meanwhile.
    fn save(&self) -> anyhow::Result<Duration> {
        self.all(|name| format!("suspend {name}"))?;
        let began = Instant::now();
        self.all(|name| format!("save {name} {}", self.file(name).display()))?;
        Ok(began.elapsed())
    }

    /// Restores the saved memory, and waits until each service is SERVING.
    fn restore(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.all(|name| format!("restore --running {}", self.file(name).display()))?;
        for name in self.spec.domains.keys() {
            serving(&self.home, &self.spec, &self.identity, name)?;
        }
        Ok(began.elapsed())
    }
}
