//! Faults of several hosts. Each begins with the host that has it: `beta:isolate-1`. That a host is cut off from the others,
//! `beta:cut`, is a fault of the switch between them, on this machine.

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::{bail, ensure};
use jiff::Timestamp;
use pspd_model::hint::Hinted;
use pspd_model::similar::meant;
use pspd_model::spec::Name;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::change::Followed;
use super::{Change, Spread};
use crate::cli::context::{block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::fault::{self, FaultOptions, HostArgs};
use crate::cli::heal;
use crate::cli::run::take_lock;
use crate::event::Events;
use crate::observe::status::FaultStatus;
use crate::remote::{Ssh, cuts, links};
use crate::report::{self, Summary};

/// A host that is cut off has one such fault.
const CUT: &str = "cut";

impl Spread<'_> {
    /// Cuts a host off from the others.
    pub(super) fn cut(&self, args: &HostArgs) -> anyhow::Result<i32> {
        let host = self.host(&args.name)?;
        let id = format!("{host}:{CUT}");
        block_on(async {
            let cancel = cancelled_by_signals()?;
            let home = self.context.paths.deployment(&self.spec.name);
            ensure!(
                home.recorded_spec()?.is_some(),
                Hinted::new(
                    format!("deployment `{}` does not exist", self.spec.name),
                    "Run `pspd up` first",
                )
            );
            let ignored = Events::ignored();
            {
                let _lock = take_lock(&home.lock_file(), args.no_wait, &cancel, &ignored).await?;
                cuts::cut(&home, host, args.lasts)?;
                links::follow_cuts(&home).await?;
            }
            fault::announce(&id, args.lasts, args.json)?;
            let Some(lasts) = args.lasts else {
                return Ok(Exit::Done as i32);
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(lasts) => {}
            }
            let never = CancellationToken::new();
            let _lock = take_lock(&home.lock_file(), false, &never, &ignored).await?;
            cuts::heal(&home, [host])?;
            links::follow_cuts(&home).await?;
            say_ended(&[id], args.json)?;
            Ok(match cancel.is_cancelled() {
                true => Exit::Interrupted,
                false => Exit::Done,
            } as i32)
        })
    }

    /// Injects a fault that each of several hosts takes a part of. Each ends its part itself if the fault ends in time.
    pub(super) fn inject(&self, options: &FaultOptions) -> anyhow::Result<i32> {
        let json = options.common.json;
        if options.common.dry_run {
            return self.print(json);
        }
        let ends = options.lasts.is_some();
        self.summarize(json, async |events, cancel| {
            self.inject_all(ends, events, cancel).await
        })
    }

    async fn inject_all(
        &self,
        ends: bool,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(Summary, i32)> {
        let programs = self.prepare(events, cancel).await?;
        let programs = programs.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let reached: Vec<_> = self.hosts.iter().zip(programs).collect();
        let mut summary = Summary::new("fault");
        let followed = self.follow_all(&reached, &mut summary, events, cancel);
        let Followed { code, faults } = followed.await;
        if summary.success || ends || faults.is_empty() {
            return Ok((summary, code));
        }
        // A part of a fault is of no use.
        let has_part = |host: &Name| faults.iter().any(|id| id.starts_with(&format!("{host}:")));
        let healing = Spread {
            hosts: Vec::new(),
            words: [vec!["heal".to_owned()], faults.clone()].concat(),
            named: true,
            ..*self
        };
        let mut reached = reached;
        reached.retain(|(ssh, _)| has_part(&ssh.name));
        let never = CancellationToken::new();
        let healed = healing.follow_all(&reached, &mut summary, events, &never);
        healed.await;
        Ok((summary, code))
    }

    /// Ends faults; all if none is named.
    pub(super) fn heal(&self, args: &heal::Args) -> anyhow::Result<i32> {
        let json = args.options.json;
        let named = args.ids.iter().map(|id| self.fault(id));
        let named: Vec<(&Name, &str)> = named.collect::<anyhow::Result<_>>()?;
        let of = |wanted: fn(&str) -> bool| -> BTreeSet<&Name> {
            if named.is_empty() {
                return self.spec.hosts.keys().collect();
            }
            let named = named.iter().filter(|(_, own)| wanted(own));
            named.map(|(host, _)| *host).collect()
        };
        let (cut, others) = (of(|own| own == CUT), of(|own| own != CUT));
        let active = cuts::active(&self.context.paths.deployment(&self.spec.name))?;
        if let Some(host) = cut.iter().find(|host| !active.contains_key(**host))
            && !named.is_empty()
        {
            bail!("no fault has the id `{host}:{CUT}`");
        }
        let hosts = others.into_iter();
        let theirs = Spread {
            hosts: hosts
                .map(|name| Ssh::to(name, &self.spec.hosts[name]))
                .collect(),
            words: self.words.clone(),
            ..*self
        };
        if args.options.dry_run {
            return theirs.print(json);
        }
        if cut.iter().any(|host| active.contains_key(*host)) {
            block_on(self.heal_cuts(cut, args.options.no_wait))?;
        }
        if !theirs.hosts.is_empty() {
            let code = theirs.change(&Change {
                command: "heal",
                json,
                forgets: false,
                needs_all: false,
            })?;
            if code != Exit::Done as i32 {
                return Ok(code);
            }
        }
        say_ended(&args.ids, json)?;
        Ok(Exit::Done as i32)
    }

    async fn heal_cuts(&self, hosts: BTreeSet<&Name>, no_wait: bool) -> anyhow::Result<()> {
        let cancel = cancelled_by_signals()?;
        let home = self.context.paths.deployment(&self.spec.name);
        let _lock = take_lock(&home.lock_file(), no_wait, &cancel, &Events::ignored()).await?;
        cuts::heal(&home, hosts)?;
        links::follow_cuts(&home).await
    }

    /// The faults of this machine's switch.
    pub(super) fn cuts(&self) -> anyhow::Result<Vec<FaultStatus>> {
        let home = self.context.paths.deployment(&self.spec.name);
        let now = Timestamp::now();
        let seconds = |from: Timestamp, to: Timestamp| {
            to.duration_since(from).as_secs().max(0).unsigned_abs()
        };
        let cuts = cuts::active(&home)?.into_iter();
        Ok(cuts
            .map(|(host, cut)| FaultStatus {
                id: format!("{host}:{CUT}"),
                kind: "host".into(),
                fault: format!("host {host} --cut"),
                domains: self.spec.clone().on(&host).domains.into_keys().collect(),
                since: cut.since.to_string(),
                until: cut.until.map(|until| until.to_string()),
                age: seconds(cut.since, now),
                left: cut.until.map(|until| seconds(now, until)),
            })
            .collect())
    }

    fn host(&self, name: &str) -> anyhow::Result<&Name> {
        let mut hosts = self.spec.hosts.keys();
        if let Some(host) = hosts.find(|host| host.as_str() == name) {
            return Ok(host);
        }
        let known: Vec<&str> = self.spec.hosts.keys().map(Name::as_str).collect();
        bail!(
            "deployment `{}` has no host `{name}`: {}",
            self.spec.name,
            meant(name, &known)
        )
    }

    /// The host of a fault, and its id there.
    fn fault<'id>(&self, id: &'id str) -> anyhow::Result<(&Name, &'id str)> {
        match id.split_once(':') {
            Some((host, own)) => Ok((self.host(host)?, own)),
            None => bail!(Hinted::new(
                format!(
                    "`{id}` is not a fault of several hosts: each begins with its host, like `{}:{id}`",
                    self.names().split(',').next().unwrap_or_default()
                ),
                "Run `pspd status` to see them",
            )),
        }
    }
}

fn say_ended(ids: &[String], json: bool) -> anyhow::Result<()> {
    if json {
        let event = json!({"event": "healed", "faults": ids});
        writeln!(crate::terminal::out(), "{event}")?;
        return Ok(());
    }
    report::say(match ids {
        [] => "all faults ended\n".to_owned(),
        [id] => format!("fault `{id}` ended\n"),
        ids => format!("{} faults ended\n", ids.len()),
    });
    Ok(())
}
