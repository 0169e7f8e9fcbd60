//! Sends a topology and its files, of which only those that the host lacks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pspd_model::spec::{Digest, Name, Spec};
use serde::{Deserialize, Serialize};
use tar::Builder;
use tokio_util::sync::CancellationToken;

use super::program::Program;
use super::sent::Sent;
use super::ssh::Ssh;
use crate::event::{Events, Scope};
use crate::progress::Progress;
use crate::tree;

/// The first line to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    pub deployment: Name,
    /// What the topology's file is called there.
    pub file: String,
    pub text: String,
    pub objects: Vec<Digest>,
    /// Keys that all hosts of the deployment share: their files' texts, by the paths in its folder of keys.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// Who sends it: a machine and the folder of the topology there.
    pub origin: String,
    /// Whether the sender may take the place of another one.
    pub adopt: bool,
}

/// The host's first line, before it gets a tar of what is missing; and its second, after that.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Missing(Vec<Digest>),
    Placed,
}

/// What to send, and in whose name.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub spec: Spec,
    /// What the topology's file is called there.
    pub file: &'static str,
    /// The topology's file here.
    pub origin: PathBuf,
    pub adopt: bool,
    pub keys: BTreeMap<String, String>,
}

/// Places the topology on the host, with all that it names beside it.
pub(crate) fn send(
    ssh: &Ssh,
    program: &Program,
    parcel: &Parcel,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<()> {
    let sent = Sent::of(&parcel.spec, &ssh.name, cancel)?;
    let mut child = ssh
        .piped(&format!("exec {} receive", program.path))
        .spawn()
        .context("failed to run `ssh`")?;
    let mut to = child.stdin.take().context("`ssh` has no input")?;
    let from = child.stdout.take().context("`ssh` has no output")?;
    let placed = (|| -> Result<()> {
        let offer = Offer {
            deployment: parcel.spec.name.clone(),
            file: parcel.file.to_owned(),
            text: sent.text.clone(),
            objects: sent.objects.keys().cloned().collect(),
            keys: parcel.keys.clone(),
            origin: origin(&parcel.origin)?,
            adopt: parcel.adopt,
        };
        writeln!(to, "{}", serde_json::to_string(&offer)?)?;
        to.flush()?;
        let mut from = BufReader::new(from);
        let mut answer = || -> Result<Answer> {
            let mut line = String::new();
            from.read_line(&mut line)?;
            Ok(serde_json::from_str(&line)?)
        };
        if let Answer::Missing(missing) = answer()? {
            pack(&sent, &missing, &mut to, events, cancel)?;
            drop(to);
        }
        match answer()? {
            Answer::Placed => Ok(()),
            Answer::Missing(_) => bail!("it asked twice"),
        }
    })();
    if cancel.is_cancelled() {
        return placed;
    }
    // What the host says is the cause of what failed here.
    let output = child
        .wait_with_output()
        .context("failed to wait for `ssh`")?;
    ssh.printed(output).context("failed to send the topology")?;
    placed.with_context(|| format!("failed to send the topology to host `{}`", ssh.name))
}

/// This machine, and the directory of a topology on it.
fn origin(file: &Path) -> Result<String> {
    let machine = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    Ok(format!("{}:{}", machine.trim(), folder.display()))
}

/// Writes a tar of the objects that are missing.
fn pack(
    sent: &Sent,
    missing: &[Digest],
    to: &mut impl Write,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<()> {
    let chosen = missing
        .iter()
        .filter_map(|name| Some((name, sent.objects.get(name)?)));
    let chosen: Vec<_> = chosen.collect();
    let mut total = 0;
    for (_, path) in &chosen {
        total += size(path)?;
    }
    let scope = match missing {
        [] => Scope::ignored(),
        _ => events.begin("host/files", "copy what the topology names"),
    };
    let progress = Progress::new(Some(total), "copying files", &scope, cancel);
    let mut tar = Builder::new(progress.watch(to));
    for (name, path) in chosen {
        add(&mut tar, name, path, cancel)?;
    }
    Ok(tar.finish()?)
}

/// Adds an object under its name.
pub(super) fn add<W: Write>(
    tar: &mut Builder<W>,
    name: &Digest,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    if path.is_dir() {
        return tree::add(tar, &name.to_string(), path, cancel);
    }
    fs::File::open(path)
        .and_then(|mut file| tar.append_file(name.to_string(), &mut file))
        .with_context(|| format!("failed to send `{}`", path.display()))
}

fn size(path: &Path) -> Result<u64> {
    let files = match path.is_dir() {
        true => tree::files(path)?,
        false => vec![path.to_owned()],
    };
    let sizes = files.iter().map(|file| Ok(fs::metadata(file)?.len()));
    sizes.sum()
}
