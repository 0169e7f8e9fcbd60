//! `pspd image`: builds, lists and removes guest images.

use std::io::Write as _;

use anyhow::bail;
use serde_json::json;

use super::context::{Context, cancelled_by_signals, runtime};
use super::exit::Exit;
use crate::event::{Event, Events};
use crate::image;
use crate::observe::images_in_use;
use crate::report::{self, Style};
use crate::spec::ImageSpec;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(clap::Subcommand)]
enum ImageCommand {
    /// Build or fetch the topology's images that are not cached
    Build {
        /// One image; all without it
        name: Option<String>,
    },
    /// Show what is cached
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove cached images that no deployment uses
    Prune,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.command {
        ImageCommand::Build { name } => build(context, name.as_deref()),
        ImageCommand::List { json } => list(context, json),
        ImageCommand::Prune => prune(context),
    }
}

fn build(context: &Context, name: Option<&str>) -> anyhow::Result<Exit> {
    let spec = context.spec()?;
    let chosen: Vec<&ImageSpec> = spec
        .images
        .values()
        .filter(|image| name.is_none_or(|name| image.name == name))
        .collect();
    if chosen.is_empty() {
        let known: Vec<&str> = spec.images.keys().map(String::as_str).collect();
        bail!(
            "no domain uses an image `{}`; they use: {}",
            name.unwrap_or_default(),
            known.join(", ")
        );
    }
    for spec in chosen {
        let built = watched(context, spec)?;
        writeln!(std::io::stdout(), "{} {}", spec.name, built.disk.display())?;
    }
    Ok(Exit::Done)
}

/// Builds one image while its progress is drawn.
fn watched(context: &Context, image: &ImageSpec) -> anyhow::Result<image::GuestImage> {
    let (cache, image) = (context.paths.cache.clone(), image.clone());
    runtime()?.block_on(async {
        let cancel = cancelled_by_signals()?;
        let (events, receiver) = Events::channel();
        let reporter = tokio::spawn(report::follow(receiver, Style::for_stderr()));
        let step = format!("image {}", image.name);
        events.emit(Event::Started {
            step: step.clone(),
            subject: None,
            title: "get it".into(),
        });
        let scope = events.scope(step, None);
        drop(events);
        let built =
            tokio::task::spawn_blocking(move || image::ensure(&cache, &image, &scope, &cancel))
                .await?;
        reporter.await??;
        built
    })
}

fn list(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let images = image::list(&context.paths.cache)?;
    let mut out = std::io::stdout();
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
    for image in image::prune(&context.paths.cache, &keep)? {
        writeln!(
            std::io::stdout(),
            "removed {}  {}",
            image.digest.short(),
            image.size
        )?;
    }
    Ok(Exit::Done)
}
