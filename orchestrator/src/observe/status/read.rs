//! Reads the state of a deployment: libvirt, the deployment's folder, and services.

use std::borrow::Cow;
use std::net::SocketAddr;

use jiff::Timestamp;
use pspd_lab::Relay;
use pspd_model::fault::Fault;
use pspd_model::intent::{Intent, PowerIntent};
use pspd_model::observed::{Live, Pause, Power};
use pspd_model::plan::waits;
use pspd_model::publish::Publish;
use pspd_model::spec::{Name, Spec};

use super::{
    BootStatus, DomainStatus, FaultStatus, NetworkState, NetworkStatus, ReportedStatus,
    ServiceHealth, ServiceStatus, State, Status,
};
use crate::address;
use crate::boot::Boot;
use crate::disk;
use crate::health::{Health, WRONG_CLOCK};
use crate::observe::host::{Host, healths};
use crate::state::Paths;

/// Reads the state of a deployment, and asks its services for their health.
pub(crate) async fn read(paths: &Paths, spec: &Spec) -> anyhow::Result<Status> {
    let host = Host::attach(paths, spec).await?;
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
        hosts: Vec::new(),
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
        id: id.to_string(),
        kind: fault.effect.word().into(),
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
        host: None,
        state: State::of(power),
        detail: detail(
            power.unwrap_or(Power::Off),
            intent.power.get(name).copied(),
            host.home.has_memory(name),
            !disk::overlays(&host.home, spec, name)?.is_empty(),
        )
        .map(Cow::into_owned),
        address: domain.address,
        firmware: domain.firmware.word().into(),
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

#[cfg(test)]
mod tests {
    use super::super::tests::status;
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

    #[test]
    fn a_clock_that_a_fault_set_off_is_not_to_be_set_by_up() {
        let mut faults = status().faults;
        let store = Name::new("store").unwrap();
        let cause = format!("{WRONG_CLOCK}. Run `pspd up` to set the clock");
        assert_eq!(of_clock(&cause, &store, &faults), cause);
        faults[0].kind = "clock".into();
        assert_eq!(
            of_clock(&cause, &store, &faults),
            format!("the fault `link-1` is active, and {WRONG_CLOCK}")
        );
        let other = "connection refused";
        assert_eq!(of_clock(other, &store, &faults), other);
    }
}
