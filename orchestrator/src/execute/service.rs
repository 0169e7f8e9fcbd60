//! What is done in guests that were reached: bringing a release of their service into use.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use pspd_model::observed::Deployed;
use pspd_model::plan::Readiness;
use pspd_model::spec::{Digest, DomainSpec, HealthCheck, Name, Push, SSH_PORT, Spec};

use super::World;
use super::reach::{LOG_LINES, indented};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::guest::{Activated, Fault, Guest, Pushing, RolledBack};
use crate::health::{self, Health};
use crate::hint::told;
use crate::identity::Identity;
use crate::log_text::LogText;
use crate::other_hosts;
use crate::reach::Reach;

/// From a service's start to SERVING, natively.
const SERVING: Duration = Duration::from_secs(10);
/// The same for what speaks another protocol: at its first start it may make its data, as PostgreSQL does.
const LISTENING: Duration = Duration::from_secs(30);
/// For the commands that prepare a release, natively.
const SETUP: Duration = Duration::from_secs(60);
/// The time between two looks at the service's unit.
const LOOK: Duration = Duration::from_secs(1);
/// From a new certificate to a connection that shows it, natively.
const SHOWN: Duration = Duration::from_secs(2);
/// For a service of another host, whose run may begin with its image.
const ELSEWHERE: Duration = Duration::from_secs(30 * 60);
/// For a guest that is about to stop: one that runs answers at once.
const GATHER: Duration = Duration::from_secs(5);

/// Saves what a service logged. A guest that does not answer is stopped anyway, with a note.
pub(super) fn gather(
    world: &World,
    domain: &Name,
    address: Ipv4Addr,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("gathering its log");
    let gathered = || -> anyhow::Result<()> {
        let guest = Guest::connect_to(
            &world.reach()?,
            SocketAddr::from((address, SSH_PORT)),
            domain,
            &*world.identity()?,
            GATHER,
            scope,
            &world.cancel,
        )?;
        guest.gather(domain, &world.home.logbook(domain))?;
        Ok(())
    };
    if let Err(error) = gathered() {
        scope.note(format!(
            "failed to save the last logs of `{domain}`: {}",
            told(&error)
        ));
    }
    Ok(())
}

/// Ends a service that the topology no longer has.
pub(super) fn withdraw(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("stopping the service");
    world.guest(domain)?.withdraw(domain)?;
    world.home.forget_deployed(domain)
}

pub(super) fn push(
    world: &World,
    domain: &Name,
    release: Option<&Digest>,
    push: Push,
    setup_timeout: Option<Duration>,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("pushing");
    let assembled = world.release(domain)?;
    expect_release(&assembled.digest, release, domain)?;
    let disk = match push {
        Push::Auto => Some(world.home.release_disk(domain)),
        Push::Ssh => None,
    };
    let pushing = Pushing {
        disk: disk.as_deref(),
        folder: world.home.path(),
        setup: setup_timeout.unwrap_or_else(|| world.patience(SETUP)),
        scope,
        cancel: &world.cancel,
    };
    world.guest(domain)?.push(&assembled, &pushing)?;
    Ok(())
}

pub(super) fn activate(
    world: &World,
    domain: &Name,
    release: Option<&Digest>,
    restart: bool,
    readiness: &Readiness,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("starting the service");
    let assembled = world.release(domain)?;
    expect_release(&assembled.digest, release, domain)?;
    let guest = world.guest(domain)?;
    let healthy = world.home.healthy_release(domain)?;
    // What runs from here on is known only once it is SERVING.
    world.home.record_activation(domain, &assembled.digest)?;
    match guest.activate(&assembled, healthy.as_ref(), restart)? {
        Activated::Unchanged => Ok(()),
        Activated::Restarted => {
            world.note_restarted(domain);
            Ok(())
        }
        Activated::Failed => {
            let limit = start_limit(world, readiness);
            let seen = format!("`{domain}` could not be started");
            Err(give_up(world, domain, limit, &seen)?)
        }
    }
}

/// The plan's release is of the files as they were when it was made; a build since then makes them another's.
fn expect_release(found: &Digest, planned: Option<&Digest>, domain: &Name) -> anyhow::Result<()> {
    ensure!(
        planned.is_none_or(|planned| planned == found),
        "the files of `{domain}` changed while `up` ran; run `pspd up` again"
    );
    Ok(())
}

/// The time that a service has until it is healthy.
fn start_limit(world: &World, readiness: &Readiness) -> Duration {
    let Readiness {
        health,
        start_timeout,
    } = readiness;
    start_timeout.unwrap_or_else(|| match health {
        HealthCheck::Tcp => world.patience(LISTENING),
        HealthCheck::Grpc(_) => world.patience(SERVING),
    })
}

pub(super) fn healthy(
    world: &World,
    domain: &Name,
    readiness: &Readiness,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("waiting for SERVING");
    let limit = start_limit(world, readiness);
    let mut served = serving(world, domain, limit, Starting::ByUs)?;
    if let Served::No(was) = &served
        && was_healthy(world, domain)?
        && !world.was_restarted(domain)
    {
        scope.note(format!("restarting the service: {was}"));
        let restarted = world.guest(domain)?.restart(domain);
        served = match restarted {
            Ok(()) => serving(world, domain, limit, Starting::ByUs)?,
            Err(error) => Served::No(told(&error)),
        };
    }
    match served {
        Served::Yes => record(world, domain, world.release(domain)?.digest.clone()),
        Served::No(seen) => Err(give_up(world, domain, limit, &seen)?),
    }
}

/// Waits for the service that a guest has; changes nothing of it.
pub(super) fn await_serving(
    world: &World,
    domain: &Name,
    readiness: &Readiness,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("waiting for SERVING");
    if let Some(other) = world.spec.elsewhere.get(domain) {
        return await_elsewhere(world, other);
    }
    let limit = start_limit(world, readiness);
    match serving(world, domain, limit, Starting::BySystemd)? {
        Served::Yes => Ok(()),
        Served::No(seen) => {
            bail!("{seen}\nRun `pspd logs {domain}` to see why, and `pspd up` to restart it")
        }
    }
}

/// Waits for a service that the run of another host starts, as long as that runs.
fn await_elsewhere(world: &World, other: &DomainSpec) -> anyhow::Result<()> {
    let (reach, identity) = (world.reach()?, world.identity()?);
    let DomainSpec { name, host, .. } = other;
    let host = host.as_ref().context("it is on no other host")?;
    let (spec, cancel) = (&world.spec, &world.cancel);
    let seen = world.runtime.block_on(async {
        tokio::select! {
            served = health::serving(&reach, spec, name, &identity, ELSEWHERE, cancel) => {
                served.err().map(|health| format!("it is {}", describe(&health)))
            }
            () = failed(host) => Some(format!("what `pspd up` did on host `{host}` failed")),
        }
    });
    let Some(seen) = seen else {
        return Ok(());
    };
    let seen = format!("`{name}` of host `{host}` did not become SERVING: {seen}");
    if cancel.is_cancelled() {
        bail!(Cancelled::during(seen));
    }
    bail!(seen)
}

async fn failed(host: &Name) {
    while !other_hosts::has_failed(host) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the release that should run was healthy once.
fn was_healthy(world: &World, domain: &Name) -> anyhow::Result<bool> {
    let release = &world.release(domain)?.digest;
    Ok(world.home.healthy_release(domain)?.as_ref() == Some(release))
}

fn record(world: &World, domain: &Name, release: Digest) -> anyhow::Result<()> {
    let certificate = Some(world.release(domain)?.certificate.digest());
    let deployed = Deployed {
        release,
        certificate,
    };
    world.home.record_deployed(domain, &deployed)
}

/// Installs a renewed certificate. A service that does not pick it up while it runs is restarted.
pub(super) fn renew(
    world: &World,
    domain: &Name,
    readiness: &Readiness,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("installing the certificate");
    let release = world.release(domain)?;
    let guest = world.guest(domain)?;
    guest.certify(&release)?;
    scope.stage("waiting until the service uses it");
    let (reach, wanted) = (world.reach()?, release.certificate.der()?);
    let identity = world.identity()?;
    let shown = health::shows(
        &reach,
        &world.spec,
        domain,
        &identity,
        &wanted,
        world.patience(SHOWN),
        &world.cancel,
    );
    if !world.runtime.block_on(shown) {
        scope.note(format!(
            "`{domain}` did not pick up the new certificate; restarting it"
        ));
        guest.restart(domain)?;
    }
    healthy(world, domain, readiness, scope)
}

/// What started a service that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starting {
    /// This run.
    ByUs,
    /// systemd, some time after its guest answers.
    BySystemd,
}

/// Whether a service became SERVING in its time, or what was seen instead.
enum Served {
    Yes,
    No(String),
}

/// Waits until the service is SERVING, it is clear that it will not be, or the time is over.
fn serving(
    world: &World,
    domain: &Name,
    limit: Duration,
    starting: Starting,
) -> anyhow::Result<Served> {
    let (reach, identity) = (world.reach()?, world.identity()?);
    // A guest that was restored is not connected to: that takes longer than its service.
    let guest = world.guest(domain).ok();
    let (spec, cancel) = (&world.spec, &world.cancel);
    let service = spec.domains[domain].service.as_ref();
    let service = service.with_context(|| format!("`{domain}` has no service"))?;
    let served = health::serving(&reach, spec, domain, &identity, limit, cancel);
    let served = world.runtime.block_on(async {
        tokio::select! {
            served = served => match served {
                Ok(()) => Served::Yes,
                Err(health) => Served::No(format!(
                    "`{domain}` did not become SERVING within {} s: it is {}",
                    limit.as_secs(),
                    describe(&health)
                )),
            },
            fault = ended(guest, domain, service.port, starting) => Served::No(fault),
            fault = misheard(&reach, spec, domain, &identity) => Served::No(fault),
        }
    });
    match served {
        Served::No(seen) if cancel.is_cancelled() => Err(Cancelled::during(seen).into()),
        served => Ok(served),
    }
}

/// Waits until it is seen in the guest that the service will not be healthy.
async fn ended(guest: Option<Arc<Guest>>, domain: &Name, port: u16, starting: Starting) -> String {
    let Some(guest) = guest else {
        return std::future::pending().await;
    };
    let mut seen_before = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let (guest, name) = (Arc::clone(&guest), domain.clone());
        let look = tokio::task::spawn_blocking(move || guest.look(&name, port)).await;
        // A guest that does not answer is the health check's to report.
        let fault = look.ok().and_then(Result::ok).flatten();
        match fault {
            Some(Fault::Inactive(_)) if starting == Starting::BySystemd => seen_before = false,
            Some(Fault::Ended(how) | Fault::Inactive(how)) => {
                return format!("`{domain}` ended: {how}");
            }
            Some(Fault::Loopback) if seen_before => {
                return format!(
                    "`{domain}` listens on port {port} of its loopback address only, which other machines cannot reach. Configure it \
                     to listen on the address in `PSPD_LISTEN`, or on 0.0.0.0"
                );
            }
            fault => seen_before = fault.is_some(),
        }
    }
}

/// Waits until the service's port answers in another protocol than that of its health check.
async fn misheard(reach: &Reach, spec: &Spec, domain: &Name, identity: &Identity) -> String {
    let mut seen_before = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let fault = health::other_protocol(reach, spec, domain, identity).await;
        if let Some(fault) = fault.filter(|_| fault == seen_before) {
            return format!(
                "`{domain}` {fault}, but pspd expects gRPC with the TLS keys that it provides. For a service without \
                 gRPC, set `health: tcp`"
            );
        }
        seen_before = fault;
    }
}

fn describe(health: &Health) -> String {
    match health {
        Health::Serving => "SERVING".into(),
        Health::NotServing => "NOT_SERVING".into(),
        Health::Unreachable(cause) => format!("not answering ({cause})"),
    }
}

/// Ends with what is best for a service that is not healthy: a release that was healthy once stays in use, because another
/// one would not help; any other is rolled back. The error says what was seen, what the service logged, and what runs now.
fn give_up(
    world: &World,
    domain: &Name,
    limit: Duration,
    seen: &str,
) -> anyhow::Result<anyhow::Error> {
    let guest = world.guest(domain)?;
    let logged = match guest.last_log_lines(domain, LOG_LINES) {
        Ok(lines) => {
            let lines: Vec<String> = lines
                .iter()
                .map(|line| LogText::read(line).to_string())
                .collect();
            let shown = indented(lines.iter().map(String::as_str));
            format!("its last log lines:\n{shown}")
        }
        Err(error) => format!("its log cannot be read: {}", told(&error)),
    };
    let now = if was_healthy(world, domain)? {
        "its release was healthy before and stays in use".to_owned()
    } else {
        roll_back(world, &guest, domain, limit)
    };
    Ok(anyhow!("{seen}\n{logged}\n{now}"))
}

/// Goes back to the previous release, which has as much time to become healthy; says what runs now.
fn roll_back(world: &World, guest: &Guest, domain: &Name, limit: Duration) -> String {
    match guest.roll_back(domain) {
        Ok(RolledBack::To(previous)) => {
            let short = previous.short().to_owned();
            match serving(world, domain, limit, Starting::ByUs) {
                Ok(Served::Yes) => match record(world, domain, previous) {
                    Ok(()) => format!("rolled back to the release {short}, which is SERVING"),
                    Err(error) => format!(
                        "rolled back to the release {short}, which is SERVING; not recorded: {}",
                        told(&error)
                    ),
                },
                Ok(Served::No(_)) => {
                    format!("rolled back to the release {short}, which is also not SERVING")
                }
                Err(error) => format!("rolled back to the release {short}: {}", told(&error)),
            }
        }
        Ok(RolledBack::Failed(previous)) => {
            format!(
                "rolled back to the release {}, which also fails to start",
                previous.short()
            )
        }
        Ok(RolledBack::Nowhere) => "it was stopped, because no previous release exists".to_owned(),
        Err(error) => format!("rolling back failed: {}", told(&error)),
    }
}
