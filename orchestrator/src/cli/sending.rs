//! What a command needs on another machine: this program, the topology, and its words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use pspd_model::spec::Spec;
use tokio_util::sync::CancellationToken;

use super::Command;
use super::context::Context;
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::identity;
use crate::remote::{self, Parcel, Program, Ssh, TOPOLOGY};

/// How a command reaches the machine of a deployment.
pub(super) enum Way {
    /// It is about this machine.
    Here,
    /// It sends the topology, under this name, and runs there.
    Sends { file: &'static str, adopt: bool },
    /// It runs there. `reads`: it takes what is on this standard input.
    Runs { reads: bool },
    /// It reads or writes files of this machine, and of the lab.
    Both,
}

impl Way {
    /// What the topology's file is called there.
    pub(super) fn file(&self) -> &'static str {
        match self {
            Way::Sends { file, .. } => file,
            _ => TOPOLOGY,
        }
    }

    pub(super) fn reads(&self) -> bool {
        matches!(self, Way::Runs { reads: true })
    }

    pub(super) fn brings_up(&self) -> bool {
        matches!(self, Way::Sends { file: TOPOLOGY, .. })
    }
}

/// Whether the command's exit code is that of another program, in a guest or in the lab.
pub(super) fn foreign_code(command: &Command) -> bool {
    matches!(command, Command::Ssh(_) | Command::Lab(_))
}

/// The topology's file here.
fn origin(context: &Context, spec: &Spec) -> PathBuf {
    let recorded = context.paths.deployment(&spec.name).origin();
    let origin = context.origin().or(recorded.ok().flatten());
    origin.unwrap_or_default()
}

/// What a command sends to each host; `None` if it sends nothing.
pub(super) fn parcel(context: &Context, spec: &Spec, way: &Way) -> anyhow::Result<Option<Parcel>> {
    let Way::Sends { file, adopt } = *way else {
        return Ok(None);
    };
    let keys = context.paths.deployment(&spec.name).keys();
    Ok(Some(Parcel {
        spec: spec.clone(),
        file,
        origin: origin(context, spec),
        adopt,
        keys: match spec.is_spread() && way.brings_up() {
            true => identity::shared(&keys, &spec.name)?,
            false => BTreeMap::new(),
        },
    }))
}

/// Records that the deployment is on other machines.
pub(super) fn record(context: &Context, spec: &Spec) -> anyhow::Result<()> {
    let home = context.paths.deployment(&spec.name);
    home.create()?;
    home.record_spec(spec)?;
    home.record_origin(&origin(context, spec))
}

/// Connects to the host, and brings there what the command needs: this program, and the topology.
pub(super) async fn prepare(
    ssh: &Ssh,
    parcel: Option<Parcel>,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Program> {
    let found = {
        let ssh = ssh.clone();
        tokio::task::spawn_blocking(move || {
            ssh.share()?;
            remote::find(&ssh)
        })
    };
    let program = tokio::select! {
        program = found => program??,
        () = cancel.cancelled() => bail!(Cancelled::during("connecting to the host")),
    };
    let (ssh, events, cancel) = (ssh.clone(), events.clone(), cancel.clone());
    let send = move || -> anyhow::Result<Program> {
        if !program.there {
            let scope = events.begin("host/pspd", "copy pspd to the host");
            program.send(&ssh, &scope, &cancel)?;
        }
        if let Some(parcel) = parcel {
            remote::send(&ssh, &program, &parcel, &events, &cancel)?;
        }
        Ok(program)
    };
    tokio::task::spawn_blocking(send).await?
}

/// The options that choose a topology and directories here.
const OF_THIS_MACHINE: [&str; 4] = ["--file", "--deployment", "--state-dir", "--cache-dir"];

pub(super) fn words() -> anyhow::Result<Vec<String>> {
    let words = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string);
    let words = words.collect::<Result<_, _>>();
    words.map_err(|word| anyhow!("the argument `{}` is not UTF-8", word.display()))
}

/// The words of the command line without the options that are about this machine.
pub(super) fn own_words(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut own = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        if word == "--" {
            own.push(word);
            break;
        }
        let option = word
            .split_once('=')
            .map_or(word.as_str(), |(option, _)| option);
        if !OF_THIS_MACHINE.contains(&option) {
            own.push(word);
        } else if option == word {
            words.next();
        }
    }
    own.extend(words);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_about_this_machine_stay_here() {
        for (line, expected) in [
            ("up --json", "up --json"),
            ("--file a.yaml up --state-dir=b --jobs 3", "up --jobs 3"),
            (
                "ssh web --deployment demo -- ls --file x",
                "ssh web -- ls --file x",
            ),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(own_words(words).join(" "), expected);
        }
    }
}
