//! `pspd export`: packs a deployment, running or stopped, into one file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_model::spec::{Name, Size, Spec};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::context::{Context, cancelled_by_signals, runtime};
use super::exit::Exit;
use super::run::{reported, take_lock};
use crate::archive::{self, Deployment, Existing, Opened, Packed, Target};
use crate::cancelled::Cancelled;
use crate::disk;
use crate::event::{Event, Events, seconds};
use crate::firmware::Roms;
use crate::guest::Guest;
use crate::identity::Identity;
use crate::image::{self, GuestImage};
use crate::observe::Host;
use crate::report::Style;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd export vm-export.tar.xz         smallest\n  pspd export vm-export.tar.zst        fastest\n  pspd export --verify vm-export.tar.xz\n\n`pspd import` reads the archive. It also works with only tar and virsh: see the README in it."
)]
pub(super) struct Args {
    /// The archive; the extension selects the format: .tar.xz, .tar.zst, .tar.gz or .tar
    archive: PathBuf,
    /// Check an existing archive; write nothing
    #[arg(long, conflicts_with_all = ["flatten", "clean", "with_secrets", "force"])]
    verify: bool,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Pack a self-contained disk for each domain instead of an overlay on a shared base image
    #[arg(long)]
    flatten: bool,
    /// Delete caches and old logs in running guests before packing
    #[arg(long)]
    clean: bool,
    /// Include private keys: those of pspd, and those of the services on the guests' disks
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    no_wait: bool,
}

/// The deadline for SSH to a guest that is already running.
const SSH: Duration = Duration::from_secs(30);
const STEP: &str = "archive/export";

/// The result of an export.
struct Done {
    packed: Packed,
    /// How long the running domains were paused.
    paused: Option<Duration>,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    runtime()?.block_on(async {
        let cancel = cancelled_by_signals()?;
        let began = Instant::now();
        let result = reported(Style::chosen(args.json), async |events| {
            if args.verify {
                verify(&args, events, &cancel).await.map(|()| None)
            } else {
                export(context, &args, events, &cancel).await.map(Some)
            }
        });
        match result.await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                writeln!(std::io::stderr(), "interrupted; no archive was written")?;
                Ok(Exit::Interrupted)
            }
            Err(error) => Err(error),
            Ok(done) => {
                print_result(&args, done, began.elapsed())?;
                Ok(Exit::Done)
            }
        }
    })
}

fn print_result(args: &Args, done: Option<Done>, elapsed: Duration) -> anyhow::Result<()> {
    let path = args.archive.display();
    let mut out = std::io::stdout();
    let Some(done) = done else {
        return Ok(writeln!(out, "`{path}`: OK")?);
    };
    let Packed { content, archive } = done.packed;
    if args.json {
        let summary = json!({
            "event": "summary", "command": "export", "success": true, "archive": archive, "content": content,
            "seconds": seconds(elapsed), "stood_still": done.paused.map(seconds),
        });
        return Ok(writeln!(out, "{summary}")?);
    }
    writeln!(
        out,
        "wrote `{path}`: {} of {} in {:.1} s",
        Size(archive),
        Size(content),
        elapsed.as_secs_f64()
    )?;
    if let Some(paused) = done.paused {
        writeln!(
            out,
            "running domains were paused for {:.2} s",
            paused.as_secs_f64()
        )?;
    }
    Ok(())
}

async fn verify(args: &Args, events: &Events, cancel: &CancellationToken) -> anyhow::Result<()> {
    let (path, cancel) = (args.archive.clone(), cancel.clone());
    let scope = events.scope(STEP, None);
    events.emit(Event::Started {
        step: STEP.into(),
        subject: None,
        title: format!("check `{}`", path.display()),
    });
    tokio::task::spawn_blocking(move || {
        let opened = Opened::open(&path, &scope, &cancel)?;
        opened.manifest.spec(std::path::Path::new("/"))?;
        opened.read(|_| Ok(None))
    })
    .await?
}

async fn export(
    context: &Context,
    args: &Args,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Done> {
    let existing = match args.force {
        true => Existing::Replace,
        false => Existing::Refuse,
    };
    let target = Target::new(&args.archive, existing)?;
    let spec = context.deployed_spec()?;
    let home = context.paths.deployment(&spec.name);
    ensure!(
        home.exists(),
        "deployment `{}` does not exist on this host; nothing to export",
        spec.name
    );
    let _lock = take_lock(&home.lock_file(), args.no_wait, cancel, events).await?;
    events.emit(Event::Started {
        step: STEP.into(),
        subject: None,
        title: format!("export `{}`", spec.name),
    });
    if !args.with_secrets && spec.domains.values().any(|domain| domain.service.is_some()) {
        events.note(
            "private keys are not included, and are removed from the packed disks; `pspd import` creates new ones. To use the \
             archive without pspd, export with `--with-secrets`",
        );
    }
    let job = Job {
        host: Host::attach(&context.paths, &spec)?,
        identity: context.identity(&spec)?,
        spec,
        events: events.clone(),
        cancel: cancel.clone(),
        flatten: args.flatten,
        clean: args.clean,
        with_secrets: args.with_secrets,
    };
    tokio::task::spawn_blocking(move || job.run(&target)).await?
}

struct Job {
    host: Host,
    spec: Spec,
    identity: Identity,
    events: Events,
    cancel: CancellationToken,
    flatten: bool,
    clean: bool,
    with_secrets: bool,
}

impl Job {
    /// Freezes the running domains, packs, and merges the snapshots, even if packing fails.
    fn run(&self, target: &Target) -> anyhow::Result<Done> {
        self.recover()?;
        let images = self.images()?;
        let running = self.running()?;
        self.tidy(&running);
        let Some(connection) = self
            .host
            .connection
            .as_ref()
            .filter(|_| !running.is_empty())
        else {
            let packed = self.pack(&images, target)?;
            return Ok(Done {
                packed,
                paused: None,
            });
        };
        let frozen = archive::freeze(connection, &self.spec, &running);
        let packed = match &frozen {
            Ok(_) => self.pack(&images, target),
            Err(_) => Err(anyhow::anyhow!("nothing was packed")),
        };
        let merged: Vec<anyhow::Result<()>> = running.iter().map(|name| self.merge(name)).collect();
        let paused = Some(frozen?);
        let packed = match packed {
            Ok(packed) => packed,
            Err(error) => {
                // The error is the reason why there is no archive; failed merges are notes.
                for unmerged in merged.into_iter().filter_map(Result::err) {
                    self.events.note(format!("{unmerged:#}"));
                }
                return Err(error);
            }
        };
        let merged: anyhow::Result<()> = merged.into_iter().collect();
        merged.with_context(|| {
            format!(
                "archive `{}` is complete, but some domains could not be restored",
                target.path.display()
            )
        })?;
        Ok(Done { packed, paused })
    }

    /// Merges the snapshots that a killed export left.
    fn recover(&self) -> anyhow::Result<()> {
        for name in disk::domains_with_overlays(&self.host.home, &self.spec)? {
            self.merge(&name)?;
        }
        Ok(())
    }

    fn merge(&self, name: &Name) -> anyhow::Result<()> {
        let scope = self
            .events
            .scope(format!("{name}/merge"), Some(name.to_string()));
        let connection = self.host.connection.as_ref();
        let connection =
            connection.context("a previous export was interrupted. Run `pspd up` first")?;
        archive::merge(connection, &self.host.home, &self.spec, name, &scope).with_context(|| {
            format!(
                "failed to merge the snapshots of `{name}` into its disks. Run `pspd up` to retry"
            )
        })
    }

    /// The base images of the disks.
    fn images(&self) -> anyhow::Result<BTreeMap<String, GuestImage>> {
        let mut images = BTreeMap::new();
        for (key, image) in &self.spec.images {
            let cached = image::cached(&self.host.cache, image)?;
            let cached = cached.with_context(|| {
                format!("image `{key}` is no longer cached. Run `pspd up` to get it again")
            })?;
            images.insert(key.clone(), cached);
        }
        Ok(images)
    }

    fn running(&self) -> anyhow::Result<Vec<&Name>> {
        let Some(connection) = &self.host.connection else {
            return Ok(Vec::new());
        };
        let mut running = Vec::new();
        for name in self.spec.domains.keys() {
            let domain = connection.domain(&self.spec.name, name.as_str())?;
            if let Some(domain) = domain
                && domain.power()?.has_process()
            {
                running.push(name);
            }
        }
        Ok(running)
    }

    /// Trims all guests in parallel. A guest that cannot be reached is packed untrimmed.
    fn tidy(&self, running: &[&Name]) {
        std::thread::scope(|threads| {
            for &name in running {
                threads.spawn(move || {
                    if let Err(error) = self.tidy_one(name) {
                        self.events.note(format!(
                            "`{name}` is packed without trimming its disks: {error:#}"
                        ));
                    }
                });
            }
        });
    }

    fn tidy_one(&self, name: &Name) -> anyhow::Result<()> {
        let scope = self
            .events
            .scope(format!("{name}/trim"), Some(name.to_string()));
        let reach = self
            .host
            .reach(&self.spec)
            .context("the guest network is not reachable")?;
        scope.stage("trimming disks");
        let guest = Guest::connect(
            &reach,
            &self.spec,
            name,
            &self.identity,
            SSH,
            &scope,
            &self.cancel,
        )?;
        guest.tidy(name, self.clean)
    }

    fn pack(
        &self,
        images: &BTreeMap<String, GuestImage>,
        target: &Target,
    ) -> anyhow::Result<Packed> {
        let kernel = images.values().find_map(|image| image.kernel.as_ref());
        let accelerator =
            crate::accel::decide(self.spec.accel, &self.host.cache, kernel)?.accelerator;
        let folder = tempfile::Builder::new()
            .prefix(".pspd-flatten-")
            .tempdir_in(self.host.home.path())
            .context("failed to create a temporary directory for flattened disks")?;
        let scope = self.events.scope(STEP, None);
        let mut flattened = BTreeMap::new();
        for name in self.spec.domains.keys().filter(|_| self.flatten) {
            scope.stage(format!("flattening the disk of {name}"));
            let to = folder.path().join(format!("{name}.qcow2"));
            disk::flatten(&self.host.home.disk(name), &to)?;
            flattened.insert(name.clone(), to);
        }
        let roms = Roms {
            cache: &self.host.cache,
            scope: &scope,
            cancel: &self.cancel,
        };
        let contents = Deployment {
            spec: &self.spec,
            home: &self.host.home,
            identity: &self.identity,
            images,
            roms: roms.of_domains(&self.spec, images)?,
            accelerator,
            with_secrets: self.with_secrets,
            flattened,
        }
        .contents()?;
        archive::pack(&contents, target, &scope, &self.cancel)
    }
}
