//! Snapshots over several hosts, of one instant: all domains are paused before any of them resumes, and no host keeps its
//! part without those of the others.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use pspd_model::spec::{Name, Spec};

use super::{Change, Spread};
use crate::cli::context::{block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::snapshot::{Checked, RestoreArgs, SaveArgs, SnapshotCommand, free_name};
use crate::report;

impl Spread<'_> {
    pub(super) fn snapshot(&self, command: &SnapshotCommand) -> anyhow::Result<i32> {
        // A host without domains has no part of it.
        let on = |name: &Name| {
            let mut domains = self.spec.domains.values();
            domains.any(|domain| domain.host.as_ref() == Some(name))
        };
        let hosts = self.hosts.iter().filter(|ssh| on(&ssh.name));
        let spread = Spread {
            hosts: hosts.cloned().collect(),
            words: self.words.clone(),
            named: false,
            ..*self
        };
        let change = |command, json| Change {
            command,
            json,
            forgets: false,
            needs_all: true,
        };
        match command {
            SnapshotCommand::Save(SaveArgs { options, .. })
            | SnapshotCommand::Rm { options, .. }
                if options.dry_run =>
            {
                spread.print(options.json)
            }
            SnapshotCommand::Save(args) => {
                let json = args.options.json;
                let code = spread.change(&change("snapshot save", json))?;
                if !json {
                    report::say(match code == Exit::Done as i32 {
                        true => {
                            format!("saved the snapshot `{}` on {}\n", args.name, spread.names())
                        }
                        false => "no snapshot was saved; the domains are unchanged\n".to_owned(),
                    });
                }
                Ok(code)
            }
            SnapshotCommand::Rm { options, .. } => {
                spread.change(&change("snapshot rm", options.json))
            }
            SnapshotCommand::Restore(args) => {
                spread.restore(args, &change("snapshot restore", args.json))
            }
            SnapshotCommand::List { json } | SnapshotCommand::Show { json, .. } => {
                spread.print(*json)
            }
            SnapshotCommand::Diff { .. } => spread.print(false),
        }
    }

    fn restore(mut self, args: &RestoreArgs, change: &Change) -> anyhow::Result<i32> {
        let checked = self.checked(args)?;
        let names = checked.iter().flat_map(|checked| checked.names.clone());
        let before = (!args.discard).then(|| free_name(&names.collect()));
        let spec = whole(self.spec, checked, &args.name)?;
        let saved = before.iter().map(|name| format!("--before={name}"));
        self.words.extend(saved);
        let code = self.change(change)?;
        if code != Exit::Done as i32 {
            return Ok(code);
        }
        self.context
            .paths
            .deployment(&spec.name)
            .record_spec(&spec)?;
        if let Some(before) = before.filter(|_| !args.json) {
            report::say(format!(
                "saved the previous state as the snapshot `{before}`. Run `pspd snapshot restore {before}` to return to it\n"
            ));
        }
        Ok(code)
    }

    /// What each host says of its part, which all have to have.
    fn checked(&self, args: &RestoreArgs) -> anyhow::Result<Vec<Checked>> {
        let mut words = ["snapshot", "restore", args.name.as_str(), "--check"]
            .map(str::to_owned)
            .to_vec();
        words.extend(args.disk_only.then(|| "--disk-only".to_owned()));
        let asking = Spread {
            hosts: self.hosts.clone(),
            words,
            ..*self
        };
        let answers = block_on(async {
            let cancel = cancelled_by_signals()?;
            Ok(join_all(asking.asked(false, &cancel)?).await)
        })?;
        let answers = self.hosts.iter().zip(answers);
        let checked = answers.map(|(ssh, answer)| {
            let (text, printed) = answer?;
            let errors = printed.errors.trim().trim_start_matches("error: ");
            ensure!(
                printed.code == Exit::Done as i32,
                "host `{}`: {errors}",
                ssh.name
            );
            serde_json::from_str(&text)
                .with_context(|| format!("host `{}` printed `{text}`", ssh.name))
        });
        checked.collect()
    }
}

/// The topology of a snapshot from the parts of its hosts.
fn whole(now: &Spec, parts: Vec<Checked>, name: &Name) -> anyhow::Result<Spec> {
    let mut spec = now.clone();
    spec.domains.clear();
    let mut elsewhere = BTreeSet::new();
    for Checked { spec: part, .. } in parts {
        elsewhere.extend(part.elsewhere.into_keys());
        spec.domains.extend(part.domains);
        spec.images.extend(part.images);
        spec.accel = part.accel;
        let gateway = spec.network.gateway;
        spec.network = part.network;
        spec.network.gateway = gateway;
    }
    let missing = elsewhere
        .iter()
        .filter(|name| !spec.domains.contains_key(*name));
    let missing: Vec<&str> = missing.map(Name::as_str).collect();
    ensure!(
        missing.is_empty(),
        "the snapshot `{name}` has domains that are on no host now: {}",
        missing.join(", ")
    );
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pspd_model::topology::{self, Found};

    use super::*;

    fn checked(spec: &Spec, host: &str) -> Checked {
        Checked {
            spec: spec.clone().on(&Name::new(host).unwrap()),
            names: BTreeSet::new(),
        }
    }

    #[test]
    fn the_parts_of_all_hosts_are_the_topology() {
        let text = "name: demo\nhosts: {alpha: {ssh: a}, beta: {ssh: b}}\ndomains: {store: {image: debian, host: alpha}, web: {image: debian, host: beta}}\n";
        let spec = topology::parse(text, Path::new("/"), &|_| Found::File).unwrap();
        let name = Name::new("one").unwrap();
        let parts = ["alpha", "beta"].map(|host| checked(&spec, host));
        let mut now = spec.clone();
        now.domains.clear();
        assert_eq!(whole(&now, parts.into(), &name).unwrap(), spec);
        let error = whole(&now, vec![checked(&spec, "beta")], &name).unwrap_err();
        let expected = "the snapshot `one` has domains that are on no host now: store";
        assert_eq!(error.to_string(), expected);
    }
}
