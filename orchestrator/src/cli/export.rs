//! `pspd export`: the deployment, running or stopped, as one file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::context::{Context, cancelled_by_signals, runtime};
use super::exit::Exit;
use super::run::{reported, take_lock};
use crate::archive::{self, Deployment, Opened, Packed, Target};
use crate::cancelled::Cancelled;
use crate::disk;
use crate::event::{Event, Events, seconds};
use crate::firmware::Roms;
use crate::guest::Guest;
use crate::identity::Identity;
use crate::image::{self, GuestImage};
use crate::observe::Host;
use crate::report::Style;
use crate::spec::{Name, Size, Spec};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd export vm-export.tar.xz         small\n  pspd export vm-export.tar.zst        quick\n  pspd export --verify vm-export.tar.xz\n\nThe archive is one for `pspd import`, and for tar and virsh alone: see the README in it."
)]
pub struct Args {
    /// The archive; its ending says the format: .tar.xz, .tar.zst, .tar.gz or .tar
    archive: PathBuf,
    /// Check an archive, and write nothing
    #[arg(long, conflicts_with_all = ["flatten", "clean", "with_secrets", "force"])]
    verify: bool,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Give each domain a self-contained disk rather than an overlay over a shared base
    #[arg(long)]
    flatten: bool,
    /// Leave out caches and old logs of running guests
    #[arg(long)]
    clean: bool,
    /// Pack the private keys, too: pspd's own, and those that services have on their disks
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    json: bool,
    /// Fail with exit code 5 when another pspd works on this deployment, rather than wait
    #[arg(long)]
    no_wait: bool,
}

/// For a guest that runs already.
const SSH: Duration = Duration::from_secs(30);
const STEP: &str = "archive/export";

/// What an export came to.
struct Done {
    packed: Packed,
    stood_still: Option<Duration>,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    runtime()?.block_on(async {
        let cancel = cancelled_by_signals()?;
        let began = Instant::now();
        let told = reported(Style::chosen(args.json), async |events| {
            if args.verify {
                verify(&args, events, &cancel).await.map(|()| None)
            } else {
                export(context, &args, events, &cancel).await.map(Some)
            }
        });
        match told.await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                writeln!(std::io::stderr(), "interrupted; no archive was written")?;
                Ok(Exit::Interrupted)
            }
            Err(error) => Err(error),
            Ok(done) => {
                tell(&args, done, began.elapsed())?;
                Ok(Exit::Done)
            }
        }
    })
}

fn tell(args: &Args, done: Option<Done>, elapsed: Duration) -> anyhow::Result<()> {
    let path = args.archive.display();
    let mut out = std::io::stdout();
    let Some(done) = done else {
        return Ok(writeln!(out, "`{path}` is whole")?);
    };
    let Packed { content, archive } = done.packed;
    if args.json {
        let summary = json!({
            "event": "summary", "command": "export", "success": true, "archive": archive, "content": content,
            "seconds": seconds(elapsed), "stood_still": done.stood_still.map(seconds),
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
    if let Some(still) = done.stood_still {
        writeln!(
            out,
            "the running domains stood still for {:.2} s",
            still.as_secs_f64()
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
    let target = Target::new(&args.archive, args.force)?;
    let spec = context.deployed_spec()?;
    let home = context.paths.deployment(&spec.name);
    ensure!(
        home.exists(),
        "`{}` is not here: there is nothing to export",
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
            "private keys are left out, on the disks too: `pspd import` makes new ones; for tar and virsh alone, export with \
             `--with-secrets`",
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
    /// Freezes what runs, packs, and brings everything back, however the packing went.
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
                stood_still: None,
            });
        };
        let frozen = archive::freeze(connection, &self.spec, &running);
        let packed = match &frozen {
            Ok(_) => self.pack(&images, target),
            Err(_) => Err(anyhow::anyhow!("nothing was packed")),
        };
        let merged: Vec<anyhow::Result<()>> = running.iter().map(|name| self.merge(name)).collect();
        let stood_still = Some(frozen?);
        let packed = match packed {
            Ok(packed) => packed,
            Err(error) => {
                // Why there is no archive is the first thing to tell.
                for unmerged in merged.into_iter().filter_map(Result::err) {
                    self.events.note(format!("{unmerged:#}"));
                }
                return Err(error);
            }
        };
        let merged: anyhow::Result<()> = merged.into_iter().collect();
        merged.with_context(|| {
            format!(
                "`{}` is whole, but not all is as before",
                target.path.display()
            )
        })?;
        Ok(Done {
            packed,
            stood_still,
        })
    }

    /// What an earlier export left when it was killed.
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
        let connection = connection.context("an export was interrupted; run `pspd up` first")?;
        archive::merge(connection, &self.host.home, &self.spec, name, &scope).with_context(|| {
            format!("failed to bring `{name}` back to its disks; `pspd up` does it")
        })
    }

    /// The images that the disks are over.
    fn images(&self) -> anyhow::Result<BTreeMap<String, GuestImage>> {
        let mut images = BTreeMap::new();
        for (key, image) in &self.spec.images {
            let cached = image::cached(&self.host.cache, image)?;
            let cached = cached.with_context(|| {
                format!("the image `{key}` is not cached any more; `pspd up` gets it again")
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
                && domain.state()?.is_active()
            {
                running.push(name);
            }
        }
        Ok(running)
    }

    /// Trims all guests at once; one that cannot be reached is packed as it is.
    fn tidy(&self, running: &[&Name]) {
        std::thread::scope(|threads| {
            for &name in running {
                threads.spawn(move || {
                    if let Err(error) = self.tidy_one(name) {
                        self.events
                            .note(format!("`{name}` is packed as it is: {error:#}"));
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
            .context("there is no way to it")?;
        scope.stage("trimming its disks");
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
            .context("failed to make a folder for flattened disks")?;
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
