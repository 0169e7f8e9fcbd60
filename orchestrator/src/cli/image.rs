//! `pspd image`: builds, lists and removes guest images and the ROMs that pspd builds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use pspd_model::plan::StepId;
use pspd_model::spec::{Builtin, ImageSpec};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::reported;
use crate::event::Scope;
use crate::firmware::coreboot;
use crate::image;
use crate::observe::{images_in_use, roms_in_use};
use crate::report::Style;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pspd image build\n  pspd image list")]
pub(super) struct Args {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(clap::Subcommand)]
enum ImageCommand {
    /// Build or download images that are not cached, or build `coreboot`
    #[command(after_help = "Examples:\n  pspd image build\n  pspd image build coreboot")]
    Build {
        /// An image of the topology, `debian`, or `coreboot` [default: all images of the topology]
        name: Option<String>,
    },
    /// List cached images and ROMs
    #[command(after_help = "Example:\n  pspd image list")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove cached images and ROMs that no deployment uses
    #[command(after_help = "Example:\n  pspd image prune")]
    Prune,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.command {
        ImageCommand::Build { name } => build(context, name.as_deref()),
        ImageCommand::List { json } => list(context, json),
        ImageCommand::Prune => prune(context),
    }
}

/// Selects the ROM instead of an image.
const COREBOOT: &str = "coreboot";

fn build(context: &Context, name: Option<&str>) -> anyhow::Result<Exit> {
    let cache = context.paths.cache.clone();
    if name == Some(COREBOOT) {
        let path = watched(COREBOOT, move |scope, cancel| {
            Ok(coreboot::with_seabios(&cache, scope, cancel)?.path)
        })?;
        writeln!(crate::terminal::out(), "{COREBOOT} {}", path.display())?;
        return Ok(Exit::Done);
    }
    let builtin = Builtin::ALL
        .into_iter()
        .find(|builtin| name == Some(builtin.name()));
    let images = match builtin {
        Some(builtin) if !context.has_spec() => {
            let image = ImageSpec::builtin(builtin);
            BTreeMap::from([(image.name.clone(), image)])
        }
        _ => context.spec_before_build()?.images,
    };
    let chosen: Vec<&ImageSpec> = images
        .values()
        .filter(|image| name.is_none_or(|name| image.name == name))
        .collect();
    if chosen.is_empty() {
        let known: Vec<&str> = images.keys().map(String::as_str).collect();
        bail!(
            "no domain uses an image `{}`. Images in use: {}",
            name.unwrap_or_default(),
            known.join(", ")
        );
    }
    for spec in chosen {
        let (cache, image) = (cache.clone(), spec.clone());
        let disk = watched(&spec.name, move |scope, cancel| {
            Ok(image::ensure(&cache, &image, scope, cancel)?.disk)
        })?;
        writeln!(crate::terminal::out(), "{} {}", spec.name, disk.display())?;
    }
    Ok(Exit::Done)
}

/// Builds an image or ROM and shows the progress; returns its file.
fn watched(
    name: &str,
    build: impl FnOnce(&Scope, &CancellationToken) -> anyhow::Result<PathBuf> + Send + 'static,
) -> anyhow::Result<PathBuf> {
    block_on(async {
        let cancel = cancelled_by_signals()?;
        reported(Style::for_stderr(), async |events| {
            let step = StepId::Image(name.to_owned());
            let scope = events.begin(step.to_string(), "build or download");
            tokio::task::spawn_blocking(move || build(&scope, &cancel)).await?
        })
        .await
    })
}

fn list(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let mut images = image::list(&context.paths.cache)?;
    images.extend(coreboot::list(&context.paths.cache)?);
    let mut out = crate::terminal::out();
    if json {
        let rows: Vec<_> = images
            .iter()
            .map(|image| json!({"digest": image.digest, "bytes": image.size.0}))
            .collect();
        writeln!(out, "{}", serde_json::to_string(&rows)?)?;
    } else {
        for image in images {
            writeln!(out, "{}  {}", image.digest.short(), image.size)?;
        }
    }
    Ok(Exit::Done)
}

fn prune(context: &Context) -> anyhow::Result<Exit> {
    let keep = images_in_use(&context.paths)?;
    let mut removed = image::prune(&context.paths.cache, &keep)?;
    let keep = roms_in_use(&context.paths)?;
    removed.extend(coreboot::prune(&context.paths.cache, &keep)?);
    for image in removed {
        writeln!(
            crate::terminal::out(),
            "removed {}  {}",
            image.digest.short(),
            image.size
        )?;
    }
    Ok(Exit::Done)
}
