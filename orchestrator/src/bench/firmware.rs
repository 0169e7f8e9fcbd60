//! Boots one image under every firmware and boot path, in turn, and times the stages of each boot.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_model::definition::Accelerator;
use pspd_model::plan::{self, Action, Plan};
use pspd_model::spec::{Firmware, ImageSpec, Name, Spec};
use tokio_util::sync::CancellationToken;

use super::own_lab::OwnLab;
use super::result::{self, Case, Results, Run};
use super::settings;
use crate::accel;
use crate::apply::Now;
use crate::boot::{Times, Watch};
use crate::cancelled::Cancelled;
use crate::disk;
use crate::event::{Events, Scope};
use crate::guest::Guest;
use crate::identity::Identity;
use crate::image::media::Media;
use crate::image::{self, GuestImage};
use crate::libvirt::{Connection, Domain};
use crate::observe::Host;
use crate::placement::written;

/// Longer than any of these boots takes, even under emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Each case's name, and its lines of a topology.
const CASES: [(&str, &str); 8] = [
    ("seabios-disk", "firmware: seabios, boot: disk"),
    ("seabios-kernel", "firmware: seabios, boot: kernel"),
    (
        "seabios-q35-disk",
        "firmware: seabios, boot: disk, machine: q35",
    ),
    ("coreboot-disk", "firmware: coreboot, boot: disk"),
    ("coreboot-kernel", "firmware: coreboot, boot: kernel"),
    ("coreboot-linux", "firmware: {coreboot: {payload: linux}}"),
    ("uefi-disk", "firmware: uefi, boot: disk"),
    ("uefi-kernel", "firmware: uefi, boot: kernel"),
];

/// Boots every case `runs` times. `folder` is for the lab alone; `cancel` ends the run after the current boot.
pub async fn measure(
    folder: &Path,
    cache: &Path,
    image: &ImageSpec,
    runs: usize,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Results> {
    let mut lab = OwnLab::new(folder, cache, &cases_of(image)?, "measuring firmware")?;
    let measured = match prepare(&mut lab, events, cancel).await {
        Ok(()) => run_all(&lab, runs, events, cancel).await,
        Err(error) => Err(error),
    };
    let removed = lab.remove(events).await;
    let results = measured?;
    removed?;
    Ok(results)
}

fn cases_of(image: &ImageSpec) -> anyhow::Result<String> {
    // JSON is YAML.
    let recipe = written::image(image);
    let mut text = format!(
        "name: bench-firmware\nnetwork: {{cidr: 10.78.0.0/24}}\nimages: {{guest: {recipe}}}\ndomains:\n"
    );
    for (name, lines) in CASES {
        writeln!(text, "  {name}: {{image: guest, memory: 512 MiB, {lines}}}")?;
    }
    Ok(text)
}

/// Starts the lab, and defines every case that this host has the firmware for; the others are removed from the spec.
async fn prepare(
    lab: &mut OwnLab,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let up = |now: &Now<'_>| plan::up(now.spec, now.intent, now.observed);
    let start = |now: Now<'_>| Ok(only(up(&now)?, |action| matches!(action, Action::StartLab)));
    lab.change(events, cancel, start).await?;
    let host = Host::attach(&lab.paths, &lab.spec).await?;
    let connection = host.connection.as_ref().context("the lab runs")?;
    if !connection.capabilities()?.uefi {
        lab.spec
            .domains
            .retain(|_, domain| domain.firmware != Firmware::Uefi);
        events.note(
            "libvirt finds no UEFI firmware on this host; its cases are skipped. Install the package `ovmf`",
        );
    }
    // Everything but starting the domains.
    let define = |now: Now<'_>| {
        Ok(only(up(&now)?, |action| {
            !matches!(action, Action::Start { .. } | Action::Reach { .. })
        }))
    };
    lab.change(events, cancel, define).await
}

/// A part of a plan.
fn only(mut plan: Plan, part: impl Fn(&Action) -> bool) -> Plan {
    plan.steps.retain(|step| part(&step.action));
    plan
}

async fn run_all(
    lab: &OwnLab,
    runs: usize,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Results> {
    let (paths, spec) = (&lab.paths, &lab.spec);
    let host = Host::attach(paths, spec).await?;
    let identity = Identity::load(&host.home.keys())?.context("the deployment has no keys")?;
    let image = image::cached(&paths.cache, &spec.images["guest"])?.context("the image is gone")?;
    let proof = accel::decide(spec.accel, &paths.cache, image.kernel.as_ref())?;
    let bench = Bench {
        host,
        spec: spec.clone(),
        identity,
        image,
        accelerator: proof.accelerator,
        cancel: cancel.clone(),
    };
    let [boots, media] = [
        ("boots", "boot each case in turn"),
        ("media", "start each firmware with each medium"),
    ]
    .map(|(step, title)| events.begin(step, title));
    tokio::task::spawn_blocking(move || bench.run(runs, &boots, &media)).await?
}

/// A lab in which every case is defined and off.
pub(super) struct Bench {
    pub(super) host: Host,
    pub(super) spec: Spec,
    identity: Identity,
    pub(super) image: GuestImage,
    pub(super) accelerator: Accelerator,
    pub(super) cancel: CancellationToken,
}

impl Bench {
    fn run(&self, runs: usize, boots: &Scope, media: &Scope) -> anyhow::Result<Results> {
        let folder = tempfile::tempdir().context("failed to make a folder for the media")?;
        // libvirt's TFTP server has a user of its own.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .context("failed to set the permissions of the media's folder")?;
        // First, so that a missing tool is reported at once.
        let made = Media::make(folder.path(), media, &self.cancel)?;
        Ok(Results {
            host: result::host(Some(self.accelerator)),
            cases: self.boot_all(runs, boots)?,
            compatibility: self.compatibility(&made, media)?,
            settings: settings::all(),
        })
    }

    /// Round by round instead of case by case, so that a host's slow minutes affect all cases alike.
    fn boot_all(&self, runs: usize, scope: &Scope) -> anyhow::Result<Vec<Case>> {
        let mut cases: Vec<Case> = CASES
            .iter()
            .filter(|(name, _)| self.has(name))
            .map(|(name, lines)| Case::new(name, lines))
            .collect();
        let total = (runs * cases.len()) as u64;
        for run in 0..runs {
            for index in 0..cases.len() {
                self.check_cancelled()?;
                let name = Name::new(&cases[index].name)?;
                scope.stage(format!("run {} of {runs}: {name}", run + 1));
                let booted = self.boot(&name);
                let off = self.power_off(&name);
                cases[index].runs.push(match booted {
                    Ok(run) => run,
                    Err(error) => Run::failed(&error),
                });
                off?;
                scope.progress((run * cases.len() + index + 1) as u64, Some(total));
            }
        }
        Ok(cases)
    }

    /// An error once the run is cancelled.
    pub(super) fn check_cancelled(&self) -> anyhow::Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(Cancelled::during("measuring firmware").into()),
            false => Ok(()),
        }
    }

    /// Whether this host runs the case.
    pub(super) fn has(&self, case: &str) -> bool {
        self.spec.domains.keys().any(|name| name.as_str() == case)
    }

    fn boot(&self, name: &Name) -> anyhow::Result<Run> {
        let home = &self.host.home;
        let domain = &self.spec.domains[name];
        // A fresh overlay: each boot is the image's first.
        let system = home.disk(name);
        crate::state::remove_if_there(&system)?;
        disk::create_overlay(&self.image.disk, &system, domain.system_disk)?;
        let handle = self.handle(name)?;
        let watch = Watch::begin(&home.console_log(name), &home.firmware_log(name))?;
        handle.start()?;
        let reach = self.host.reach(&self.spec).context("the lab runs")?;
        let guest = Guest::connect(
            &reach,
            &self.spec,
            name,
            &self.identity,
            PATIENCE,
            &Scope::ignored(),
            &self.cancel,
        );
        let times = Times {
            ssh: guest.is_ok().then(|| watch.elapsed()),
            ..watch.times()
        };
        let guest =
            guest.with_context(|| format!("timed out waiting for {}", times.waiting_for()))?;
        let reported = guest.firmware()?;
        ensure!(
            reported.fits(&domain.firmware),
            "the guest reports {reported}"
        );
        Ok(Run::booted(times, &reported))
    }

    fn handle(&self, name: &Name) -> anyhow::Result<Domain> {
        self.connection()?
            .domain(&self.spec.name, name.as_str())?
            .with_context(|| format!("the domain `{name}` is gone"))
    }

    pub(super) fn connection(&self) -> anyhow::Result<&Connection> {
        self.host.connection.as_ref().context("the lab runs")
    }

    fn power_off(&self, name: &Name) -> anyhow::Result<()> {
        Ok(self.handle(name)?.destroy()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;
    use pspd_model::spec::ImageSource;
    use pspd_model::spec::{Seed, Size};

    #[test]
    fn every_case_is_a_valid_domain() {
        let folder = tempfile::tempdir().unwrap();
        let image = ImageSpec {
            name: "guest".into(),
            source: ImageSource::Recipe(folder.path().to_owned()),
            packages: Default::default(),
            seed: Seed::Credentials,
        };
        let file = folder.path().join("topology.yaml");
        fs::write(&file, cases_of(&image).unwrap()).unwrap();
        let spec = topology::load(&file).unwrap();
        assert_eq!(spec.domains.len(), CASES.len());
        assert!(
            spec.domains
                .values()
                .all(|domain| domain.memory.current == Size::mib(512))
        );
    }
}
