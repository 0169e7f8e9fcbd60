//! `pspd import`: unpacks an exported deployment on this host, then brings it up like any other.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::{Coded, Exit};
use super::run::{Change, change, plan_up, reported, take_lock};
use crate::apply::{self, Run};
use crate::archive::{Opened, Placement, TOPOLOGY, Taken, Wanted, placement};
use crate::cancelled::Cancelled;
use crate::event::{Event, Events};
use crate::execute::{JOBS, Outcome};
use crate::observe::Extent;
use crate::report::Style;
use crate::state::resolved_origin;
use crate::{observe, topology};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd import vm-export.tar.xz\n  pspd import vm-export.tar.xz --name copy\n  pspd import vm-export.tar.xz --dry-run\n\nThe deployment's topology.yaml and its files are written to a directory named after the deployment. Run `pspd`\ncommands in that directory, or pass `--deployment NAME`."
)]
pub(super) struct Args {
    /// The archive
    archive: PathBuf,
    /// The name of the new deployment [default: the name in the archive]
    #[arg(long)]
    name: Option<String>,
    /// Where domains run: `lab`, or a libvirt URI of this host
    #[arg(long, default_value = "lab", value_name = "URI")]
    connection: String,
    /// The directory for topology.yaml and its files [default: the name of the deployment]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Check the whole archive and show the resulting deployment; create nothing
    #[arg(long)]
    dry_run: bool,
    /// Unpack the deployment, but do not start it
    #[arg(long)]
    no_up: bool,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    json: bool,
}

const STEP: &str = "archive/import";

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let result = reported(Style::chosen(args.json), async |events| {
            import(context, &args, events, &cancel).await
        });
        let placement = match result.await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                writeln!(crate::terminal::err(), "interrupted; nothing was created")?;
                return Ok(Exit::Interrupted);
            }
            result => result?,
        };
        let mut err = crate::terminal::err();
        for note in &placement.notes {
            writeln!(err, "note: {note}")?;
        }
        if args.dry_run {
            describe(&placement)?;
            return Ok(Exit::Done);
        }
        writeln!(err, "imported into `{}`", placement.folder.display())?;
        if args.no_up {
            return Ok(Exit::Done);
        }
        up(context, &placement, args.json, cancel).await
    })
}

/// Opens and checks the archive, then places it while holding the deployment's lock.
async fn import(
    context: &Context,
    args: &Args,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Arc<Placement>> {
    events.emit(Event::Started {
        step: STEP.into(),
        subject: None,
        title: format!("read `{}`", args.archive.display()),
    });
    let wanted = Wanted {
        name: args.name.as_deref().map(Name::new).transpose()?,
        connection: args.connection.clone(),
        folder: args.into.clone(),
    };
    let (scope, path) = (events.scope(STEP, None), args.archive.clone());
    let opened = {
        let (scope, cancel) = (scope.clone(), cancel.clone());
        tokio::task::spawn_blocking(move || Opened::open(&path, &scope, &cancel)).await??
    };
    let taken = Taken {
        networks: observe::routed_networks()?,
        listening: |address| TcpListener::bind(address).is_err(),
    };
    let placement = placement(&opened.manifest, wanted, &taken, &context.paths)?;
    placement.refuse_taken()?;
    let placement = Arc::new(placement);
    if args.dry_run {
        scope.stage("checking");
        tokio::task::spawn_blocking(move || opened.read(|_| Ok(None))).await??;
        return Ok(placement);
    }
    let _lock = take_lock(&placement.home.lock_file(), false, cancel, events).await?;
    placement.refuse_taken()?;
    let plan = pspd_model::plan::import(args.archive.clone(), placement.folder.clone());
    let run = Run {
        command: "import",
        paths: &context.paths,
        spec: &placement.spec,
        events,
        cancel,
        jobs: JOBS,
    };
    let outcome = apply::import(run, &plan, opened, Arc::clone(&placement)).await?;
    placed(outcome)?;
    // Without its folder, `--deployment` still names it.
    placement.home.record_spec(&placement.spec)?;
    if let Some(origin) = resolved_origin(&placement.folder.join(TOPOLOGY)) {
        placement.home.record_origin(&origin)?;
    }
    Ok(placement)
}

/// The error of an import that placed nothing, or whose cancellation left something.
fn placed(outcome: Outcome) -> anyhow::Result<()> {
    let failed = outcome.failed.into_iter();
    let left = outcome.undone.into_iter().filter_map(|(step, error)| {
        let context = format!("failed to undo: {}", step.title());
        Some(error?.context(context))
    });
    match failed.map(|(_, error)| error).chain(left).next() {
        Some(error) => Err(error),
        None if outcome.cancelled => Err(Cancelled::during("unpacking the archive").into()),
        None => Ok(()),
    }
}

/// Prints the deployment that the archive would create.
fn describe(placement: &Placement) -> anyhow::Result<()> {
    let spec = &placement.spec;
    let mut out = crate::terminal::out();
    writeln!(
        out,
        "`{}` on {}, network {}, into `{}`",
        spec.name,
        spec.connection,
        spec.network.cidr,
        placement.folder.display()
    )?;
    for domain in spec.domains.values() {
        let published: Vec<SocketAddr> =
            domain.publish.iter().map(|publish| publish.host).collect();
        writeln!(
            out,
            "  {}  {}  {} memory, {} vCPUs, published on {published:?}",
            domain.name, domain.address, domain.memory.current, domain.vcpus.current
        )?;
    }
    Ok(())
}

/// Does the same as `pspd up` in the new topology's directory.
async fn up(
    context: &Context,
    placement: &Placement,
    json: bool,
    cancel: CancellationToken,
) -> anyhow::Result<Exit> {
    let file = placement.folder.join(TOPOLOGY);
    let spec: Spec = topology::load(&file)
        .map_err(|faults| Coded {
            exit: Exit::InvalidTopology,
            message: faults.to_string(),
        })
        .context("failed to load the imported topology")?;
    let change_to = Change {
        command: "up",
        json,
        no_wait: false,
        jobs: JOBS,
        extent: Extent::Complete,
        forget: false,
    };
    change(context, spec, change_to, cancel, |now| {
        plan_up(&placement.home, resolved_origin(&file).as_deref(), &now)
    })
    .await
}
