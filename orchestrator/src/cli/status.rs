//! `pspd status`: shows the current state of domains, services and addresses.

mod text;

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use pspd_lab::Relay;
use pspd_model::fault::Fault;
use pspd_model::intent::{Intent, PowerIntent};
use pspd_model::observed::{Live, Pause, Power};
use pspd_model::plan::waits;
use pspd_model::publish::Publish;
use pspd_model::spec::{Name, Size, Spec};
use serde::{Serialize, Serializer};

use super::boot::{self, BootStatus, ReportedStatus};
use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use crate::address;
use crate::boot::Boot;
use crate::disk;
use crate::health::{Health, WRONG_CLOCK};
use crate::observe::{Host, healths};

/// The time between two updates of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd status\n  pspd status --watch\n  pspd status --json | jq .healthy"
)]
pub(super) struct Args {
    /// Print JSON with stable fields
    #[arg(long)]
    json: bool,
    /// Also show the stages of each domain's last boot
    #[arg(long)]
    boot: bool,
    /// Refresh every two seconds until Ctrl-C
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Status {
    deployment: Name,
    connection: String,
    healthy: bool,
    network: NetworkStatus,
    domains: Vec<DomainStatus>,
    /// The faults that the user injected and that have not ended.
    faults: Vec<FaultStatus>,
}

#[derive(Debug, PartialEq, Serialize)]
struct FaultStatus {
    id: Name,
    kind: &'static str,
    /// In the words of the command that injected it.
    fault: String,
    domains: Vec<Name>,
    since: String,
    /// When it ends; `null` if it stays until it is healed.
    until: Option<String>,
    /// Seconds since it began.
    age: u64,
    /// Seconds until it ends; 0 if its time is over.
    left: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct NetworkStatus {
    state: NetworkState,
    /// Whether its DNS and DHCP server answers.
    dns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum NetworkState {
    Absent,
    Inactive,
    Active,
}

#[derive(Debug, PartialEq, Serialize)]
struct DomainStatus {
    name: Name,
    #[serde(serialize_with = "word")]
    state: State,
    /// Why it is so, where that is known.
    detail: Option<String>,
    address: Ipv4Addr,
    /// The firmware that the topology asks for.
    firmware: &'static str,
    /// The firmware that the guest reports; unknown until the guest was reached.
    reported: Option<ReportedStatus>,
    boot: Option<BootStatus>,
    /// Bytes.
    memory: Option<Size>,
    vcpus: Option<u32>,
    /// What the topology gives it at its next start only.
    at_next_start: Vec<String>,
    service: Option<ServiceStatus>,
    /// Addresses of the host where its ports are published now.
    published: Vec<SocketAddr>,
    /// Where other machines reach its published HTTP servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    /// Addresses of the host where they should be published, and are not.
    unpublished: Vec<SocketAddr>,
}

/// A domain's power state; none if it is not defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(Option<Power>);

impl State {
    fn is_running(self) -> bool {
        self.0 == Some(Power::Running)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.map_or("absent", Power::word))
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct ServiceStatus {
    #[serde(serialize_with = "word")]
    health: ServiceHealth,
    detail: Option<String>,
    port: u16,
    release: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServiceHealth {
    /// Its domain does not run.
    Down,
    Serving,
    NotServing,
    Unreachable,
}

impl fmt::Display for ServiceHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceHealth::Down => "down",
            ServiceHealth::Serving => "serving",
            ServiceHealth::NotServing => "not-serving",
            ServiceHealth::Unreachable => "unreachable",
        })
    }
}

fn word<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    block_on(async {
        if !args.watch {
            let status = read(context, &spec).await?;
            show(&status, args.json)?;
            if args.boot && !args.json {
                let home = context.paths.deployment(&spec.name);
                write!(crate::terminal::out(), "{}", boot::table(&home, &spec)?)?;
            }
            return Ok(if status.healthy {
                Exit::Done
            } else {
                Exit::Differs
            });
        }
        let cancel = cancelled_by_signals()?;
        while !cancel.is_cancelled() {
            let status = tokio::select! {
                status = read(context, &spec) => status?,
                () = cancel.cancelled() => break,
            };
            if std::io::stdout().is_terminal() && !args.json {
                // Cursor home, then clear to the end of the screen.
                write!(crate::terminal::raw(), "\x1b[H\x1b[J")?;
            }
            show(&status, args.json)?;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        Ok(Exit::Done)
    })
}

async fn read(context: &Context, spec: &Spec) -> anyhow::Result<Status> {
    let host = Host::attach(&context.paths, spec).await?;
    let (network, mut domains, faults) = {
        let (host, spec) = (host.clone(), spec.clone());
        tokio::task::spawn_blocking(move || describe_all(&host, &spec)).await??
    };
    let with_service: Vec<&Name> = spec
        .domains
        .values()
        .filter(|domain| domain.service.is_some())
        .map(|domain| &domain.name)
        .collect();
    let running: Vec<&Name> = with_service
        .into_iter()
        .filter(|name| {
            domains
                .iter()
                .any(|domain| domain.name == **name && domain.state.is_running())
        })
        .collect();
    let healths = healths(&host, spec, &running).await?;
    for domain in &mut domains {
        if let (Some(service), Some(health)) = (&mut domain.service, healths.get(&domain.name)) {
            (service.health, service.detail) = match health {
                Health::Serving => (ServiceHealth::Serving, None),
                Health::NotServing => (ServiceHealth::NotServing, None),
                Health::Unreachable(cause) => {
                    let cause = of_clock(cause, &domain.name, &faults);
                    (ServiceHealth::Unreachable, Some(cause))
                }
            };
        }
    }
    let healthy = network.dns
        && domains.iter().all(|domain| {
            domain.state.is_running()
                && domain.unpublished.is_empty()
                && domain.reported.as_ref().is_none_or(|it| it.as_asked)
                && domain
                    .service
                    .as_ref()
                    .is_none_or(|service| service.health == ServiceHealth::Serving)
        });
    Ok(Status {
        deployment: spec.name.clone(),
        connection: spec.connection.to_string(),
        healthy,
        network,
        domains,
        faults,
    })
}

/// A cause without the advice to run `up`, where a fault set the guest's clock off: `up` leaves it so.
fn of_clock(cause: &str, domain: &Name, faults: &[FaultStatus]) -> String {
    let mut faults = faults.iter();
    let fault = faults.find(|fault| fault.kind == "clock" && fault.domains.contains(domain));
    match fault {
        Some(FaultStatus { id, .. }) if cause.starts_with(WRONG_CLOCK) => {
            format!("the fault `{id}` is active, and {WRONG_CLOCK}")
        }
        _ => cause.to_owned(),
    }
}

type Described = (NetworkStatus, Vec<DomainStatus>, Vec<FaultStatus>);

fn describe_all(host: &Host, spec: &Spec) -> anyhow::Result<Described> {
    let intent = host.home.intent()?;
    let relay = host.relay.as_ref();
    let published = relay.map(Relay::published).transpose()?.unwrap_or_default();
    let names = spec.domains.keys();
    let domains = names.map(|name| describe(host, spec, &intent, name, &published));
    let domains = domains.collect::<anyhow::Result<_>>()?;
    let now = Timestamp::now().as_second().try_into().unwrap_or(0);
    let faults = intent.faults.iter();
    let faults = faults.map(|(id, fault)| describe_fault(id, fault, now));
    let faults = faults.collect::<anyhow::Result<_>>()?;
    Ok((describe_network(host, spec)?, domains, faults))
}

fn describe_fault(id: &Name, fault: &Fault, now: u64) -> anyhow::Result<FaultStatus> {
    let shown = |seconds: u64| {
        let time = Timestamp::from_second(seconds.try_into()?)?;
        anyhow::Ok(time.to_string())
    };
    Ok(FaultStatus {
        id: id.clone(),
        kind: fault.effect.word(),
        fault: fault.effect.to_string(),
        domains: fault.effect.domains().into_iter().cloned().collect(),
        since: shown(fault.since)?,
        until: fault.until.map(shown).transpose()?,
        // A clock that was set back makes nothing younger than new.
        age: now.saturating_sub(fault.since),
        left: fault.until.map(|until| until.saturating_sub(now)),
    })
}

fn describe_network(host: &Host, spec: &Spec) -> anyhow::Result<NetworkStatus> {
    let network = match &host.connection {
        Some(connection) => connection.network(&spec.name, &spec.network.name)?,
        None => None,
    };
    let active = network.map(|network| network.is_active()).transpose()?;
    Ok(NetworkStatus {
        state: match active {
            None => NetworkState::Absent,
            Some(false) => NetworkState::Inactive,
            Some(true) => NetworkState::Active,
        },
        dns: active == Some(true) && host.dns_answers(spec),
    })
}

/// What the word for a power state leaves out: the user's intent, else what is in the deployment's folder, else libvirt's
/// reason.
fn detail(
    power: Power,
    intent: Option<PowerIntent>,
    has_memory: bool,
    is_exported: bool,
) -> Option<Cow<'static, str>> {
    match (intent, power) {
        (Some(intent), _) => Some(format!("{} by the user", intent.word()).into()),
        (None, power) if has_memory && !power.has_process() => {
            Some("its memory is saved; the next `pspd up` restores it".into())
        }
        (None, Power::Paused(Pause::User)) if is_exported => {
            Some("paused by an export. If it was interrupted, run `pspd up`".into())
        }
        (None, power) => power.detail(),
    }
}

fn describe(
    host: &Host,
    spec: &Spec,
    intent: &Intent,
    name: &Name,
    published: &[(SocketAddr, SocketAddr)],
) -> anyhow::Result<DomainStatus> {
    let domain = &spec.domains[name];
    let (published, unpublished): (Vec<&Publish>, _) = domain.publish.iter().partition(|publish| {
        let guest = SocketAddr::from((domain.address, publish.guest_port));
        published.contains(&(publish.host, guest))
    });
    let fronts = published.iter().filter(|publish| publish.http.is_some());
    let urls = fronts.flat_map(|publish| publish.reached_at(address::of_this_host()));
    let urls = urls.collect();
    let hosts = |publishes: Vec<&Publish>| publishes.iter().map(|publish| publish.host).collect();
    let handle = match &host.connection {
        Some(connection) => connection.domain(&spec.name, name.as_str())?,
        None => None,
    };
    let power = handle.as_ref().map(|handle| handle.power()).transpose()?;
    let live = handle
        .as_ref()
        .map(|handle| handle.live())
        .transpose()?
        .flatten();
    let release = host
        .home
        .deployed_record(name)?
        .map(|deployed| deployed.release.short().to_owned());
    // A domain that is off runs no firmware.
    let boot = Boot::recorded(&host.home, name)?.filter(|_| live.is_some());
    let reboots = match &boot {
        Some(boot) => boot.reboots(&host.home.console_log(name))?,
        None => None,
    };
    Ok(DomainStatus {
        name: name.clone(),
        state: State(power),
        detail: detail(
            power.unwrap_or(Power::Off),
            intent.power.get(name).copied(),
            host.home.has_memory(name),
            !disk::overlays(&host.home, spec, name)?.is_empty(),
        )
        .map(Cow::into_owned),
        address: domain.address,
        firmware: domain.firmware.word(),
        reported: boot
            .as_ref()
            .map(|boot| ReportedStatus::of(boot, &domain.firmware)),
        boot: boot.as_ref().map(|boot| BootStatus::of(boot, reboots)),
        memory: live.as_ref().map(|live| live.memory.current),
        vcpus: live.as_ref().map(|live| live.vcpus.current),
        at_next_start: live.as_ref().map_or(Vec::new(), |live| {
            let live = Live {
                maximum_memory: live.memory.maximum,
                vcpus: live.vcpus,
            };
            waits(domain, live)
        }),
        service: domain.service.as_ref().map(|service| ServiceStatus {
            health: ServiceHealth::Down,
            detail: None,
            port: service.port,
            release,
        }),
        published: hosts(published),
        urls,
        unpublished: hosts(unpublished),
    })
}

fn show(status: &Status, json: bool) -> anyhow::Result<()> {
    let mut out = crate::terminal::out();
    if json {
        writeln!(out, "{}", serde_json::to_string(status)?)?;
    } else {
        let width = crate::terminal::out_width();
        write!(out, "{}", text::render(status, width))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paused_domain_has_a_reason() {
        let paused = Power::Paused(Pause::User);
        let of = |intent, is_exported| detail(paused, intent, false, is_exported);
        assert_eq!(of(None, false), None);
        let exported = of(None, true).unwrap();
        assert_eq!(
            exported,
            "paused by an export. If it was interrupted, run `pspd up`"
        );
        let asked = of(Some(PowerIntent::Paused), true).unwrap();
        assert_eq!(asked, "paused by the user");
        assert_eq!(detail(Power::Running, None, false, true), None);
    }

    pub(super) fn status() -> Status {
        Status {
            deployment: Name::new("demo").unwrap(),
            connection: "lab".into(),
            healthy: false,
            network: NetworkStatus {
                state: NetworkState::Active,
                dns: false,
            },
            domains: vec![DomainStatus {
                name: Name::new("store").unwrap(),
                state: State(Some(Power::Running)),
                detail: None,
                address: [10, 77, 0, 10].into(),
                firmware: "seabios",
                reported: Some(ReportedStatus {
                    vendor: "coreboot".into(),
                    version: "4.15".into(),
                    efi: false,
                    coreboot: true,
                    as_asked: false,
                }),
                boot: Some(BootStatus {
                    started: Some("2026-01-01T00:00:00Z".into()),
                    firmware: Some(0.312),
                    kernel: Some(2.5),
                    init: None,
                    ssh: Some(7.0),
                    reboots: Some(0),
                }),
                memory: Some(Size::mib(512)),
                vcpus: Some(1),
                at_next_start: vec!["its 2 vCPUs at its next start: it runs with 1".into()],
                service: Some(ServiceStatus {
                    health: ServiceHealth::Unreachable,
                    detail: Some("connection refused".into()),
                    port: 50051,
                    release: Some("0123456789ab".into()),
                }),
                published: vec!["127.0.0.1:8080".parse().unwrap()],
                urls: vec!["https://app.example.org:8080".into()],
                unpublished: vec!["127.0.0.1:8081".parse().unwrap()],
            }],
            faults: vec![FaultStatus {
                id: Name::new("link-1").unwrap(),
                kind: "link",
                fault: "link store --down".into(),
                domains: vec![Name::new("store").unwrap()],
                since: "2026-01-01T00:00:00Z".into(),
                until: Some("2026-01-01T00:10:00Z".into()),
                age: 90,
                left: Some(510),
            }],
        }
    }

    #[test]
    fn a_clock_that_a_fault_set_off_is_not_to_be_set_by_up() {
        let mut faults = status().faults;
        let store = Name::new("store").unwrap();
        let cause = format!("{WRONG_CLOCK}. Run `pspd up` to set the clock");
        assert_eq!(of_clock(&cause, &store, &faults), cause);
        faults[0].kind = "clock";
        assert_eq!(
            of_clock(&cause, &store, &faults),
            format!("the fault `link-1` is active, and {WRONG_CLOCK}")
        );
        let other = "connection refused";
        assert_eq!(of_clock(other, &store, &faults), other);
    }

    #[test]
    fn the_json_form_has_stable_fields() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&status()).unwrap(), @r#"
        {
          "deployment": "demo",
          "connection": "lab",
          "healthy": false,
          "network": {
            "state": "active",
            "dns": false
          },
          "domains": [
            {
              "name": "store",
              "state": "running",
              "detail": null,
              "address": "10.77.0.10",
              "firmware": "seabios",
              "reported": {
                "vendor": "coreboot",
                "version": "4.15",
                "efi": false,
                "coreboot": true,
                "as_asked": false
              },
              "boot": {
                "started": "2026-01-01T00:00:00Z",
                "firmware": 0.312,
                "kernel": 2.5,
                "init": null,
                "ssh": 7.0,
                "reboots": 0
              },
              "memory": 536870912,
              "vcpus": 1,
              "at_next_start": [
                "its 2 vCPUs at its next start: it runs with 1"
              ],
              "service": {
                "health": "unreachable",
                "detail": "connection refused",
                "port": 50051,
                "release": "0123456789ab"
              },
              "published": [
                "127.0.0.1:8080"
              ],
              "urls": [
                "https://app.example.org:8080"
              ],
              "unpublished": [
                "127.0.0.1:8081"
              ]
            }
          ],
          "faults": [
            {
              "id": "link-1",
              "kind": "link",
              "fault": "link store --down",
              "domains": [
                "store"
              ],
              "since": "2026-01-01T00:00:00Z",
              "until": "2026-01-01T00:10:00Z",
              "age": 90,
              "left": 510
            }
          ]
        }
        "#);
    }
}
