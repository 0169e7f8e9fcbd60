//! `pspd up` against a minimal script: start three prepared domains, wait for SSH, copy, start, wait for SERVING.
//! Then a second `up`, one changed service, and the resources of pspd itself.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd::guest::openssh_options;
use pspd::health;
use pspd::identity::Identity;
use pspd::reach::Reach;
use pspd::state::{Home, Paths};
use pspd_lab::Lab;
use pspd_model::spec::{Name, Spec};
use pspd_tests::deployment::Deployment;
use pspd_tests::process::output;
use tokio_util::sync::CancellationToken;

use super::{row, say};

const RUNS: usize = 3;
const SERVING: Duration = Duration::from_secs(120);

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::reference()?;
    deployment.run(&["up"])?.expect(0)?;
    let bare = Bare::prepare(&deployment)?;
    let mut runs = [Vec::new(), Vec::new()];
    let mut cost = Vec::new();
    for _ in 0..RUNS {
        deployment.run(&["down"])?.expect(0)?;
        let began = Instant::now();
        cost.push(watched(&deployment)?);
        runs[0].push(began.elapsed());
        runs[1].push(bare.run(&deployment)?);
    }
    let up = row("pspd up", &runs[0]);
    let script = row("bare script", &runs[1]);
    say(&format!("ratio of medians: {:.2}", up / script));
    for Cost {
        memory_kib,
        cpu,
        wall,
    } in cost
    {
        say(&format!(
            "pspd up itself: {:.1} MiB at most, {:.2} s of processor in {:.1} s: {:.1} % of a core",
            memory_kib as f64 / 1024.0,
            cpu,
            wall,
            100.0 * cpu / wall
        ));
    }
    // The bare script left other releases behind; `up` replaces them.
    deployment.run(&["down"])?.expect(0)?;
    deployment.run(&["up"])?.expect(0)?;
    let nothing: Vec<Duration> = (0..5)
        .map(|_| Ok(deployment.run(&["up"])?.expect(0)?.elapsed))
        .collect::<anyhow::Result<_>>()?;
    row("pspd up with nothing to do", &nothing);
    let changed: Vec<Duration> = (0..3)
        .map(|_| {
            OpenOptions::new()
                .append(true)
                .open(deployment.binary("ai-server"))?
                .write_all(b"changed")?;
            Ok(deployment.run(&["up"])?.expect(0)?.elapsed)
        })
        .collect::<anyhow::Result<_>>()?;
    row("pspd up with one changed service", &changed);
    deployment.remove()
}

/// The resources of the host that a run of `pspd up` used.
pub(crate) struct Cost {
    pub(crate) memory_kib: u64,
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

/// Runs `up` and samples its process until it ends.
pub(crate) fn watched(deployment: &Deployment) -> anyhow::Result<Cost> {
    let began = Instant::now();
    let running = deployment.spawn(&["up"])?;
    let proc = Path::new("/proc").join(running.id().to_string());
    let mut cost = Cost {
        memory_kib: 0,
        cpu: 0.0,
        wall: 0.0,
    };
    while let (Ok(status), Ok(stat)) = (
        fs::read_to_string(proc.join("status")),
        fs::read_to_string(proc.join("stat")),
    ) {
        let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else {
            break;
        };
        cost.memory_kib = peak.trim().trim_end_matches(" kB").parse()?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        // utime and stime, in the kernel's hundredths of a second: proc(5).
        let ticks: u64 = fields.get(11).context("utime")?.parse::<u64>()?
            + fields.get(12).context("stime")?.parse::<u64>()?;
        cost.cpu = ticks as f64 / 100.0;
        cost.wall = began.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_millis(20));
    }
    running.wait()?.expect(0)?;
    Ok(cost)
}

/// What the script needs: each domain's files, and how to reach it.
struct Bare {
    spec: Spec,
    identity: Identity,
    paths: Paths,
}

impl Bare {
    fn prepare(deployment: &Deployment) -> anyhow::Result<Bare> {
        let paths = Paths::resolve(Some(deployment.state()), None)?;
        let spec = pspd::topology::load(&deployment.file)?;
        let identity = Identity::load(&paths.deployment(&spec.name).keys())?;
        let identity = identity.context("the deployment has no keys")?;
        for name in spec.domains.keys() {
            let list = deployment.ssh(
                name.as_str(),
                &format!("cd /opt/pspd/{name} && find current/ identity/ -type f ! -name '.*'"),
            )?;
            for file in list.lines() {
                let to = deployment
                    .folder()
                    .join("bundle")
                    .join(name.as_str())
                    .join(file);
                fs::create_dir_all(to.parent().context("a folder")?)?;
                let from = format!("/opt/pspd/{name}/{file}");
                let copied = deployment
                    .command(["ssh", name.as_str(), "--", "cat", &from])
                    .output()?;
                ensure!(copied.status.success(), "failed to copy `{from}`");
                fs::write(to, copied.stdout)?;
            }
        }
        Ok(Bare {
            spec,
            identity,
            paths,
        })
    }

    /// Prepares three fresh domains that are off, then times the script.
    fn run(&self, deployment: &Deployment) -> anyhow::Result<Duration> {
        for name in self.spec.domains.keys() {
            deployment
                .run(&["lab", "exec", "--", "virsh", "destroy", name.as_str()])?
                .expect(0)?;
            self.fresh_disk(name)?;
        }
        let began = Instant::now();
        std::thread::scope(|scope| {
            let scripts: Vec<_> = self
                .spec
                .domains
                .keys()
                .map(|name| scope.spawn(|| self.one(deployment, name)))
                .collect();
            scripts.into_iter().try_for_each(|script| {
                script
                    .join()
                    .map_err(|_| anyhow::anyhow!("a script panicked"))?
            })
        })?;
        Ok(began.elapsed())
    }

    fn fresh_disk(&self, name: &Name) -> anyhow::Result<()> {
        let disk = self.paths.deployment(&self.spec.name).disk(name);
        let info = output(
            Command::new("qemu-img")
                .args(["info", "--output=json"])
                .arg(&disk),
        )?;
        let info: serde_json::Value = serde_json::from_str(&info)?;
        let base = info["backing-filename"]
            .as_str()
            .context("the disk is an overlay")?;
        output(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base])
                .arg(&disk)
                .arg("4G"),
        )
        .map(drop)
    }

    /// Start, wait for SSH, copy, start the service, wait for SERVING: as a shell script would, over one connection.
    fn one(&self, deployment: &Deployment, name: &Name) -> anyhow::Result<()> {
        let home = self.paths.deployment(&self.spec.name);
        let bundle = deployment.folder().join("bundle").join(name.as_str());
        let master = deployment.folder().join(format!("{name}.ssh"));
        let options = openssh_options(&home, &self.spec, name, &self.identity, None)?;
        let quoted: Vec<String> = options
            .iter()
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let host = self.spec.domains[name].address;
        let shared = format!(
            "-o ControlMaster=auto -o ControlPersist=60 -o ControlPath={} -o ConnectTimeout=1",
            master.display()
        );
        let options = quoted.join(" ");
        let script = format!(
            "cd {keys} && virsh start {name} >/dev/null || exit
             until ssh {options} {shared} {host} true 2>/dev/null; do sleep 0.05; done
             ssh {options} {shared} {host} mkdir -p /opt/pspd/{name}/bare/current /opt/pspd/{name}/bare/identity
             (cd {bundle} && find . -type f) | while read -r file; do
                 ssh {options} {shared} {host} \"cat > /opt/pspd/{name}/bare/$file\" < {bundle}/$file
             done
             ssh {options} {shared} {host} 'set -e; cd /opt/pspd/{name}; ln -sfn bare/current current; ln -sfn bare/identity identity; chmod 755 current/{name};
                 [ ! -e current/mount-volumes ] || chmod 755 current/mount-volumes
                 printf \"u {name} -\\n\" | systemd-sysusers - 2>/dev/null; chown root:{name} identity/key.pem; chmod 640 identity/key.pem
                 for unit in current/*.service; do ln -sfn /opt/pspd/{name}/$unit /etc/systemd/system/; done
                 until systemctl show --property=Version >/dev/null 2>&1; do sleep 0.2; done
                 systemctl daemon-reload; systemctl start {name}'",
            bundle = bundle.display(),
            keys = home.keys().display()
        );
        let ran = deployment.run(&["lab", "exec", "--", "sh", "-c", &script])?;
        ensure!(
            ran.code() == Some(0),
            "the script of `{name}` failed: {}",
            ran.stderr
        );
        serving(&home, &self.spec, &self.identity, name)
    }
}

/// Waits until a service of a lab's guest is SERVING.
pub(crate) fn serving(
    home: &Home,
    spec: &Spec,
    identity: &Identity,
    name: &Name,
) -> anyhow::Result<()> {
    let lab = Lab::running(&home.lab())?.context("the lab runs")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (reach, never) = (Reach::Lab(lab), CancellationToken::new());
    let wait = health::serving(&reach, spec, name, identity, SERVING, &never);
    runtime
        .block_on(wait)
        .map_err(|health| anyhow::anyhow!("`{name}` is {health:?}"))
}
