//! The logs of services on several hosts, merged by time.

use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Context as _;
use futures::future::join_all;
use pspd_model::spec::Name;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::Spread;
use crate::cli::context::{block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::logs::{Args, Arrived};
use crate::cli::sending::prepare;
use crate::event::Events;
use crate::hint::told;
use crate::remote::{self, Printed, Ssh, Words};
use crate::report;

impl Spread<'_> {
    /// Prints the logs of these domains, or of all.
    pub(super) fn logs(&self, args: &Args, named: &BTreeSet<Name>) -> anyhow::Result<i32> {
        args.filter.check()?;
        let domains: Vec<Name> = match named.is_empty() {
            true => self.spec.domains.keys().cloned().collect(),
            false => named.iter().cloned().collect(),
        };
        let mut printer = args.printer(&domains);
        let (sender, arriving) = channel();
        block_on(async {
            let cancel = cancelled_by_signals()?;
            if !args.follow {
                let heard = self.hear_all(args, named, sender, &cancel).await;
                let kept = arriving.into_iter();
                let kept = kept.map(|arrived| (arrived.domain, arrived.line)).collect();
                printer.print_kept(kept, args.trace.as_deref())?;
                return Ok(heard);
            }
            let until = args.filter.until;
            let ended = cancel.clone();
            let printing = tokio::task::spawn_blocking(move || {
                let printed = printer.print_arriving(&arriving, until);
                ended.cancel();
                printed
            });
            let heard = self.hear_all(args, named, sender, &cancel).await;
            printing.await??;
            // Ctrl-C is how following ends well.
            Ok(match cancel.is_cancelled() {
                true => Exit::Done as i32,
                false => heard,
            })
        })
    }

    /// Passes on the lines of all hosts. One that does not answer is told about at once, and missing.
    async fn hear_all(
        &self,
        args: &Args,
        named: &BTreeSet<Name>,
        sender: Sender<Arrived>,
        cancel: &CancellationToken,
    ) -> i32 {
        let heard = self.hosts.iter().map(|ssh| {
            let sender = sender.clone();
            async move {
                let heard = self.hear(ssh, args, named, sender, cancel).await;
                if !cancel.is_cancelled() {
                    tell(&ssh.name, &heard);
                }
                heard.map_or(Exit::Failed as i32, |printed| printed.code)
            }
        });
        let codes = join_all(heard).await;
        codes.into_iter().max().unwrap_or(Exit::Done as i32)
    }

    async fn hear(
        &self,
        ssh: &Ssh,
        args: &Args,
        named: &BTreeSet<Name>,
        sender: Sender<Arrived>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Printed> {
        let program = prepare(ssh, None, &Events::ignored(), cancel).await?;
        let own = named
            .iter()
            .filter(|name| self.spec.domains[*name].host.as_ref() == Some(&ssh.name));
        let words = Words {
            words: args.words(own.map(ToString::to_string)),
            ..self.words(&ssh.name, false)
        };
        let line = |line: String| {
            let (domain, line) = serde_json::from_str(&line)
                .with_context(|| format!("host `{}` printed `{line}`", ssh.name))?;
            let at = Instant::now();
            // Nobody receives it once the last time was reached.
            let _ended = sender.send(Arrived { domain, line, at });
            Ok(())
        };
        // Nothing is told to it; without the sender, its input would end.
        let (_open, said) = broadcast::channel(1);
        remote::follow(ssh, &program, &words, said, cancel, line).await
    }
}

/// Says what a host said beside its lines, or why they are missing.
fn tell(host: &Name, heard: &anyhow::Result<Printed>) {
    match heard {
        Ok(Printed { errors, .. }) if errors.is_empty() => {}
        Ok(Printed { errors, .. }) => report::say(format_args!("{host}:\n{errors}")),
        Err(error) => {
            let why = told(error);
            report::say(format_args!(
                "note: the logs of host `{host}` are missing: {why}\n"
            ));
        }
    }
}
