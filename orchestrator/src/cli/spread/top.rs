//! What domains of several hosts use.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use pspd_model::spec::Name;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::Spread;
use crate::cli::context::{block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::sending::prepare;
use crate::cli::top::{Args, Row};
use crate::event::Events;
use crate::hint::told;
use crate::remote::{self, Ssh, Words};
use crate::report;

/// What a host printed for one interval.
#[derive(Deserialize)]
struct Line {
    domains: Vec<Row>,
}

/// The last rows of each host.
type Rows = RefCell<BTreeMap<Name, Vec<Row>>>;

impl Spread<'_> {
    /// Shows what these domains use, or all.
    pub(super) fn top(&self, args: &Args, named: &BTreeSet<Name>) -> anyhow::Result<i32> {
        let rows = Rows::default();
        block_on(async {
            let cancel = cancelled_by_signals()?;
            let heard = self.hosts.iter().map(|ssh| {
                let (rows, cancel) = (&rows, &cancel);
                async move {
                    let heard = self.hear_top(ssh, args, named, rows, cancel).await;
                    if let Err(error) = &heard
                        && !cancel.is_cancelled()
                    {
                        report::say(format_args!("note: {}\n", told(error)));
                        rows.borrow_mut()
                            .insert(ssh.name.clone(), self.unknown(ssh, named));
                    }
                    heard.is_ok()
                }
            });
            let heard = join_all(heard);
            if args.is_once() {
                let heard = heard.await;
                self.show_top(args, &rows)?;
                return Ok(match heard.into_iter().all(|heard| heard) {
                    true => Exit::Done,
                    false => Exit::Failed,
                } as i32);
            }
            let shown = async {
                loop {
                    tokio::time::sleep(args.interval).await;
                    // Each host has shown its first interval.
                    if rows.borrow().len() == self.hosts.len() {
                        self.show_top(args, &rows)?;
                    }
                }
            };
            tokio::select! {
                _ = heard => {}
                shown = shown => return shown,
            }
            // Ctrl-C is how it ends well.
            Ok(match cancel.is_cancelled() {
                true => Exit::Done,
                false => Exit::Failed,
            } as i32)
        })
    }

    fn show_top(&self, args: &Args, rows: &Rows) -> anyhow::Result<()> {
        let mut rows: Vec<Row> = rows.borrow().values().flatten().cloned().collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        args.show(&rows, args.interval)
    }

    fn unknown(&self, ssh: &Ssh, named: &BTreeSet<Name>) -> Vec<Row> {
        let own = self.spec.clone().on(&ssh.name).domains.into_keys();
        let own = own.filter(|name| named.is_empty() || named.contains(name));
        own.map(|name| Row::unknown(name, ssh.name.clone()))
            .collect()
    }

    async fn hear_top(
        &self,
        ssh: &Ssh,
        args: &Args,
        named: &BTreeSet<Name>,
        rows: &Rows,
        cancel: &CancellationToken,
    ) -> anyhow::Result<()> {
        let program = prepare(ssh, None, &Events::ignored(), cancel).await?;
        let own = named
            .iter()
            .filter(|name| self.spec.domains[*name].host.as_ref() == Some(&ssh.name));
        let words = Words {
            words: args.words(own.map(Name::to_string)),
            ..self.words(&ssh.name, false)
        };
        let line = |line: String| {
            let Line { mut domains } = serde_json::from_str(&line)
                .with_context(|| format!("host `{}` printed `{line}`", ssh.name))?;
            for row in &mut domains {
                row.host = Some(ssh.name.clone());
            }
            rows.borrow_mut().insert(ssh.name.clone(), domains);
            Ok(())
        };
        let (_open, said) = broadcast::channel(1);
        let printed = remote::follow(ssh, &program, &words, said, cancel, line).await?;
        if printed.code != Exit::Done as i32 {
            let errors = printed.errors.trim().trim_start_matches("error: ");
            bail!("host `{}`: {errors}", ssh.name);
        }
        Ok(())
    }
}
