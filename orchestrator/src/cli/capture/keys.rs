//! The TLS keys of a capture: of which domains, and how they are gathered.

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::{Context as _, ensure};
use pspd_model::spec::{KEY_LOG, Name, Spec};
use tokio_util::sync::CancellationToken;

use super::super::context::Context;
use super::super::logs::connect;
use crate::guest::Guest;
use crate::hint::told;
use crate::identity::Identity;
use crate::reach::Reach;
use crate::terminal;

/// The domains whose services log TLS keys.
pub(super) struct Keys {
    spec: Spec,
    names: Vec<Name>,
    reach: Reach,
    identity: Identity,
}

impl Keys {
    /// Of the domains `wanted`, or of all that log keys. Fails if the topology does not ask for that.
    pub(super) fn of(context: &Context, spec: &Spec, wanted: &[Name]) -> anyhow::Result<Keys> {
        Ok(Keys {
            spec: spec.clone(),
            names: names(spec, wanted)?,
            reach: context.reach(spec)?,
            identity: context.identity(spec)?,
        })
    }

    /// Checks that there are keys to gather later. Blocks.
    pub(super) fn check(&self, cancel: &CancellationToken) -> anyhow::Result<()> {
        for (name, found) in self.each(cancel, Guest::has_key_log) {
            let found =
                found.with_context(|| format!("failed to look for the TLS keys of `{name}`"))?;
            ensure!(
                found,
                "`{name}` has no TLS key log. Its service is not running, or does not support the environment variable `{KEY_LOG}`"
            );
        }
        Ok(())
    }

    /// Reads the keys of all connections so far, as the lines of one key log. Both ends of a connection log the same keys. A
    /// guest that does not answer is reported and skipped: the packets of the others can be decrypted. Blocks.
    pub(super) fn gather(&self) -> String {
        // The capture may have ended by a cancellation, which must not end this.
        let cancel = CancellationToken::new();
        let mut lines = BTreeSet::new();
        let gathered = self.each(&cancel, |guest, name| {
            let mut lines = Vec::new();
            guest.key_log(name, |line| lines.push(format!("{line}\n")))?;
            Ok(lines)
        });
        for (name, gathered) in gathered {
            match gathered {
                Ok(gathered) => lines.extend(gathered),
                Err(error) => {
                    // Without stderr, there is nowhere to report it.
                    let _ = writeln!(
                        terminal::err(),
                        "note: the TLS keys of `{name}` are missing: {}",
                        told(&error)
                    );
                }
            }
        }
        lines.into_iter().collect()
    }

    /// Does the same in each guest, in all at once.
    fn each<T: Send>(
        &self,
        cancel: &CancellationToken,
        action: impl Fn(&Guest, &Name) -> anyhow::Result<T> + Sync,
    ) -> Vec<(&Name, anyhow::Result<T>)> {
        let one = |name: &Name| {
            let guest = connect(&self.reach, &self.spec, name, &self.identity, cancel)?;
            action(&guest, name)
        };
        std::thread::scope(|threads| {
            let names = self.names.iter();
            let threads: Vec<_> = names
                .map(|name| (name, threads.spawn(|| one(name))))
                .collect();
            let results = threads.into_iter().map(|(name, thread)| {
                let result = thread.join();
                (
                    name,
                    result.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))),
                )
            });
            results.collect()
        })
    }
}

fn names(spec: &Spec, wanted: &[Name]) -> anyhow::Result<Vec<Name>> {
    let logs_keys = |name: &Name| {
        let service = spec.domains[name].service.as_ref();
        service.is_some_and(|service| service.tls_key_log)
    };
    if let Some(name) = wanted.iter().find(|name| !logs_keys(name)) {
        anyhow::bail!("`{name}` does not log its TLS keys. {HINT}");
    }
    let names: Vec<Name> = match wanted {
        [] => spec
            .domains
            .keys()
            .filter(|name| logs_keys(name))
            .cloned()
            .collect(),
        wanted => wanted.to_vec(),
    };
    ensure!(
        !names.is_empty(),
        "no service of `{}` logs its TLS keys. {HINT}",
        spec.name
    );
    Ok(names)
}

const HINT: &str = "Set `tls_key_log: true` in its `service` in the topology, and run `pspd up`";
