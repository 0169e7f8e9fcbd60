//! `pspd fault`: injects a fault into a running deployment.

mod delay;
mod harm;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pspd_model::fault::{Direction, Effect, Ended};
use pspd_model::spec::{Name, Size, Spec};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::completions;
use super::context::{Context, block_on, cancelled_by_signals, domain, domain_anywhere};
use super::exit::Exit;
use super::heal;
use super::options::Options;
use super::run::{Change, WITHOUT, change};
use crate::observe::{Extent, Host, observe};
use crate::report;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pspd fault partition database-server / ai-server,web-server
  pspd fault isolate database-server --for 30s
  pspd fault link web-server --down
  pspd fault kill database-server
  pspd fault host beta --cut
  pspd heal                    end all faults

Faults are shown by `pspd status`, and stay until `pspd heal` or `pspd down`.")]
pub(super) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Clone, clap::Subcommand)]
enum Kind {
    /// Drop all frames between two groups of domains; pspd still reaches them
    #[command(after_help = "Example:\n  pspd fault partition a,b / c")]
    Partition {
        /// Two groups with `/` between them, such as `a,b / c`
        #[arg(required = true, value_name = "A,B / C")]
        groups: Vec<String>,
        /// Only drop what the first group sends to the second
        #[arg(long)]
        one_way: bool,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Drop all frames between a domain and all others; pspd still reaches it
    #[command(after_help = "Example:\n  pspd fault isolate database-server --for 30s")]
    Isolate {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Unplug a domain's network cable; pspd cannot reach it either
    #[command(after_help = "Example:\n  pspd fault link web-server --down")]
    Link {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        /// Unplug it; `heal` plugs it in again
        #[arg(long, required = true)]
        down: bool,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Slow, lose, reorder or duplicate what two domains send to each other; pspd is not affected
    #[command(
        after_help = "Example:\n  pspd fault delay a b --latency 100ms --jitter 20ms --loss 2%"
    )]
    Delay(delay::Args),
    /// Stop a domain's virtual CPUs
    #[command(after_help = "Example:\n  pspd fault pause ai-server --for 10s")]
    Pause {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Force a domain off; `heal` starts it again
    #[command(after_help = "Example:\n  pspd fault kill database-server")]
    Kill {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Make a guest's kernel panic; `heal` starts the domain again
    #[command(after_help = "Example:\n  pspd fault crash web-server")]
    Crash {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// End a domain's service
    #[command(
        after_help = "Examples:\n  pspd fault service web-server --kill\n  pspd fault service ai-server --stop --for 1m"
    )]
    #[command(group = clap::ArgGroup::new("how").required(true))]
    Service {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        /// Send SIGKILL to it; the guest's systemd starts it again, so nothing is left to heal
        #[arg(long, group = "how", conflicts_with = "lasts")]
        kill: bool,
        /// Stop it until `heal`, which starts it
        #[arg(long, group = "how")]
        stop: bool,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Take memory from a running guest
    #[command(after_help = "Example:\n  pspd fault memory ai-server --to 200MiB")]
    Memory {
        /// The domain
        #[arg(add = completions::domains())]
        name: String,
        /// How much it keeps, such as `200MiB`
        #[arg(long, value_name = "SIZE")]
        to: Size,
        #[command(flatten)]
        options: FaultOptions,
    },
    /// Slow or fill a domain's disk, or make it fail
    #[command(after_help = "\
Examples:
  pspd fault disk database-server data --slow 500KiB/s
  pspd fault disk web-server system --full")]
    Disk(harm::DiskArgs),
    /// Set a guest's clock off
    #[command(after_help = "Example:\n  pspd fault clock web-server --skew -10m")]
    Clock(harm::ClockArgs),
    /// Burn a guest's virtual CPUs; pspd's own access and other services come first
    #[command(after_help = "Example:\n  pspd fault cpu web-server --burn 90%")]
    Cpu(harm::CpuArgs),
    /// Cut a host of the topology off from the others: no frame passes between its domains and theirs; pspd reaches all
    #[command(after_help = "Example:\n  pspd fault host beta --cut --for 30s")]
    Host(HostArgs),
}

#[derive(Clone, clap::Args)]
pub(super) struct HostArgs {
    /// A host of the topology
    #[arg(value_name = "HOST")]
    pub(super) name: String,
    /// Cut it off; `heal` connects it again
    #[arg(long, required = true)]
    cut: bool,
    /// Wait for this time, such as `30s` or `5m`, then end the fault; Ctrl-C ends it earlier. It ends then even if pspd is
    /// killed meanwhile
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(super) lasts: Option<Duration>,
    /// Print one JSON event per line on stdout
    #[arg(long)]
    pub(super) json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    pub(super) no_wait: bool,
}

impl Args {
    /// The host that they cut off.
    pub(super) fn host(&self) -> Option<&HostArgs> {
        match &self.kind {
            Kind::Host(args) => Some(args),
            _ => None,
        }
    }

    /// The fault that they describe, and the options.
    pub(super) fn described(&self, spec: &Spec) -> anyhow::Result<(Effect, FaultOptions)> {
        self.kind.clone().effect(spec)
    }
}

/// The arguments of this command as one text.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(subcommand)]
    kind: Kind,
}

/// The effect that the arguments of this command describe, without its options.
pub(super) fn effect(spec: &Spec, words: &str) -> anyhow::Result<Effect> {
    let Words { kind } = super::options::words(words)?;
    let (effect, options) = kind.effect(spec)?;
    ensure!(
        options.lasts.is_none(),
        "`{words}` has `--for`; write the time as the key `for`"
    );
    options.common.refuse(words)?;
    Ok(effect)
}

#[derive(Clone, clap::Args)]
pub(super) struct FaultOptions {
    /// Wait for this time, such as `30s` or `5m`, then end the fault; Ctrl-C ends it earlier. If pspd is killed meanwhile,
    /// the fault stays, and the next `pspd heal` or `pspd up` after its time ends it
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(super) lasts: Option<Duration>,
    #[command(flatten)]
    pub(super) common: Options,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let (effect, options) = args.kind.effect(&spec)?;
    if options.common.dry_run {
        return show(context, &spec, effect, &options);
    }
    block_on(inject(context, spec, effect, options))
}

fn show(
    context: &Context,
    spec: &Spec,
    effect: Effect,
    options: &FaultOptions,
) -> anyhow::Result<Exit> {
    let (_, plan) = block_on(async {
        let host = Host::attach(&context.paths, spec).await?;
        let observed = observe(&host, spec, Extent::Existing).await?;
        let intent = host.home.intent()?;
        let planned = pspd_model::plan::inject(spec, &intent, &observed, effect, options.lasts);
        Ok(planned?)
    })?;
    report::plan(&plan, WITHOUT, options.common.json)?;
    Ok(Exit::Done)
}

async fn inject(
    context: &Context,
    spec: Spec,
    effect: Effect,
    options: FaultOptions,
) -> anyhow::Result<Exit> {
    let cancel = cancelled_by_signals()?;
    let change_to = Change {
        command: "fault",
        json: options.common.json,
        no_wait: options.common.no_wait,
        jobs: crate::execute::JOBS,
        extent: Extent::Existing,
        forget: false,
    };
    let momentary = effect.is_momentary();
    let mut injected = None;
    let exit = change(context, spec.clone(), change_to, cancel.clone(), |now| {
        let (spec, intent, observed) = (now.spec, now.intent, now.observed);
        let planned = pspd_model::plan::inject(spec, intent, observed, effect, options.lasts);
        let (id, plan) = planned?;
        injected = Some(id);
        Ok(plan)
    })
    .await?;
    let Some(id) = injected.filter(|_| !momentary) else {
        return Ok(exit);
    };
    if exit == Exit::Done {
        announce(
            &context.shown_fault(&id),
            options.lasts,
            options.common.json,
        )?;
        let Some(lasts) = options.lasts else {
            return Ok(exit);
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(lasts) => {}
        }
    }
    // Its time is over, or it could not be applied. The first Ctrl-C asked for this.
    let healing = heal::Healing {
        ids: vec![id.to_string()],
        json: options.common.json,
        no_wait: false,
    };
    let healed = heal::heal(context, spec, healing, CancellationToken::new()).await?;
    Ok(match (exit, healed) {
        (Exit::Done, Exit::Done) if cancel.is_cancelled() => Exit::Interrupted,
        (Exit::Done, healed) => healed,
        (exit, _) => exit,
    })
}

/// Says that a fault is active, and how it ends.
pub(super) fn announce(id: &str, lasts: Option<Duration>, json: bool) -> anyhow::Result<()> {
    if json {
        let event = json!({"event": "injected", "fault": id});
        writeln!(crate::terminal::out(), "{event}")?;
    } else if let Some(lasts) = lasts {
        report::say(format!(
            "fault `{id}` is active for {} s; Ctrl-C ends it\n",
            lasts.as_secs()
        ));
    } else {
        report::say(format!(
            "fault `{id}` is active; `pspd heal {id}` ends it\n"
        ));
    }
    Ok(())
}

impl Kind {
    fn effect(self, spec: &Spec) -> anyhow::Result<(Effect, FaultOptions)> {
        let named = |name: &str| domain(spec, name);
        Ok(match self {
            Kind::Partition {
                groups,
                one_way,
                options,
            } => {
                let (from, to) = two_groups(spec, &groups.join(" "))?;
                let direction = if one_way {
                    Direction::OneWay
                } else {
                    Direction::Both
                };
                let effect = Effect::Partition {
                    from,
                    to,
                    direction,
                };
                (effect, options)
            }
            Kind::Host(_) => bail!("`{}` is not over several hosts", spec.name),
            Kind::Isolate { name, options } => {
                let domain = named(&name)?;
                (Effect::Isolate { domain }, options)
            }
            Kind::Link { name, options, .. } => {
                let domain = named(&name)?;
                (Effect::Link { domain }, options)
            }
            Kind::Delay(args) => args.effect(spec)?,
            Kind::Pause { name, options } => {
                let domain = named(&name)?;
                (Effect::Pause { domain }, options)
            }
            Kind::Kill { name, options } => {
                let domain = named(&name)?;
                (Effect::Kill { domain }, options)
            }
            Kind::Crash { name, options } => {
                let domain = named(&name)?;
                (Effect::Crash { domain }, options)
            }
            Kind::Service {
                name,
                stop,
                options,
                ..
            } => {
                let domain = named(&name)?;
                let how = if stop { Ended::Stopped } else { Ended::Killed };
                (Effect::Service { domain, how }, options)
            }
            Kind::Memory { name, to, options } => {
                let domain = named(&name)?;
                (Effect::Memory { domain, to }, options)
            }
            Kind::Disk(args) => args.effect(spec)?,
            Kind::Clock(args) => args.effect(spec)?,
            Kind::Cpu(args) => args.effect(spec)?,
        })
    }
}

/// Reads `a,b / c`.
fn two_groups(spec: &Spec, text: &str) -> anyhow::Result<(BTreeSet<Name>, BTreeSet<Name>)> {
    let sides: Vec<&str> = text.split('/').collect();
    let [from, to] = sides[..] else {
        bail!("`{text}` is not two groups with one `/` between them; write them like `a,b / c`");
    };
    let group = |side: &str| -> anyhow::Result<BTreeSet<Name>> {
        let names = side.split([',', ' ']).filter(|name| !name.is_empty());
        let names: BTreeSet<Name> = names
            .map(|name| domain_anywhere(spec, name))
            .collect::<Result<_, _>>()?;
        ensure!(
            !names.is_empty(),
            "a group in `{text}` has no domain; write them like `a,b / c`"
        );
        Ok(names)
    };
    Ok((group(from)?, group(to)?))
}

/// Whole seconds, at least one.
pub(super) fn duration(text: &str) -> anyhow::Result<Duration> {
    let hint = || format!("`{text}` is not a valid duration; write it like `30s` or `5m`");
    let duration: jiff::SignedDuration = text.parse().with_context(hint)?;
    let duration = Duration::try_from(duration).with_context(hint)?;
    ensure!(
        duration.as_secs() > 0 && duration.subsec_nanos() == 0,
        "`{text}` is not a number of whole seconds from 1"
    );
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_of_whole_seconds() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h 1s", 3601)] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "30", "0s", "-5s", "500ms", "1.5s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
