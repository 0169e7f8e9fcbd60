//! What is done in guests that were reached: bringing a release of their service into use.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use pspd_model::observed::Deployed;
use pspd_model::spec::{Digest, HealthCheck, Name};

use super::World;
use super::reach::{LOG_LINES, indented};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::guest::{Activated, Guest, RolledBack};
use crate::health::{self, Health};

/// From a service's start to SERVING, natively.
const SERVING: Duration = Duration::from_secs(10);
/// The same for what speaks another protocol: at its first start it may make its data, as PostgreSQL does.
const LISTENING: Duration = Duration::from_secs(30);
/// The time between two looks at the service's unit.
const LOOK: Duration = Duration::from_secs(1);
/// From a new certificate to a connection that shows it, natively.
const SHOWN: Duration = Duration::from_secs(2);
/// For a guest that is about to stop: one that runs answers at once.
const GATHER: Duration = Duration::from_secs(5);

/// Saves what a service logged. A guest that does not answer stops all the same, with a note.
pub(super) fn gather(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("gathering its log");
    let gathered = || -> anyhow::Result<()> {
        let guest = Guest::connect(
            &world.reach()?,
            &world.spec,
            domain,
            &*world.identity()?,
            GATHER,
            scope,
            &world.cancel,
        )?;
        guest.gather(domain, &world.home.logbook(domain))
    };
    if let Err(error) = gathered() {
        scope.note(format!(
            "failed to save the last logs of `{domain}`: {error:#}"
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
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("pushing");
    let assembled = world.release(domain)?;
    expect_release(&assembled.digest, release, domain)?;
    world
        .guest(domain)?
        .push(&assembled, scope, &world.cancel)?;
    Ok(())
}

pub(super) fn activate(
    world: &World,
    domain: &Name,
    release: Option<&Digest>,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("starting the service");
    let assembled = world.release(domain)?;
    expect_release(&assembled.digest, release, domain)?;
    let guest = world.guest(domain)?;
    // What runs from here on is known only once it is SERVING.
    world.home.forget_deployed(domain)?;
    match guest.activate(&assembled)? {
        Activated::Unchanged | Activated::Restarted => Ok(()),
        Activated::Failed => {
            let seen = format!("`{domain}` could not be started");
            Err(roll_back(world, &guest, domain, &seen))
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

pub(super) fn healthy(
    world: &World,
    domain: &Name,
    health: &HealthCheck,
    start_timeout: Option<Duration>,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("waiting for SERVING");
    let deadline = start_timeout.unwrap_or_else(|| match health {
        HealthCheck::Tcp => world.patience(LISTENING),
        HealthCheck::Grpc(_) => world.patience(SERVING),
    });
    let health = match serving_or_ended(world, domain, deadline)? {
        Seen::Health(health) => health,
        Seen::Ended(how) => {
            let seen = format!("`{domain}` ended: {how}");
            return Err(roll_back(world, &*world.guest(domain)?, domain, &seen));
        }
    };
    match health {
        Health::Serving => record(world, domain, world.release(domain)?.digest.clone()),
        health if world.cancel.is_cancelled() => {
            Err(Cancelled::during(format_args!("the service was {}", describe(&health))).into())
        }
        health => {
            let waited = deadline.as_secs();
            let seen = format!(
                "`{domain}` did not become SERVING within {waited} s: it is {}",
                describe(&health)
            );
            let guest = world.guest(domain)?;
            Err(roll_back(world, &guest, domain, &seen))
        }
    }
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
    health: &HealthCheck,
    start_timeout: Option<Duration>,
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
    healthy(world, domain, health, start_timeout, scope)
}

/// What came first.
enum Seen {
    Health(Health),
    /// systemd gave up; how the service's process ended.
    Ended(String),
}

/// Waits for SERVING, or until the service's process ended and is not started again.
fn serving_or_ended(world: &World, domain: &Name, deadline: Duration) -> anyhow::Result<Seen> {
    let guest = world.guest(domain)?;
    let ended = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let (guest, domain) = (Arc::clone(&guest), domain.clone());
            let ended = tokio::task::spawn_blocking(move || guest.ended(&domain)).await;
            // A guest that does not answer is the health check's to report.
            if let Ok(Ok(Some(how))) = ended {
                return how;
            }
        }
    };
    let (reach, identity) = (world.reach()?, world.identity()?);
    let (spec, cancel) = (&world.spec, &world.cancel);
    let serving = health::serving(&reach, spec, domain, &identity, deadline, cancel);
    world.runtime.block_on(async {
        tokio::select! {
            served = serving => Ok(Seen::Health(match served {
                Ok(()) => Health::Serving,
                Err(health) => health,
            })),
            how = ended => Ok(Seen::Ended(how)),
        }
    })
}

/// Waits for SERVING; gives the last health that was seen.
fn serving(world: &World, domain: &Name, deadline: Duration) -> anyhow::Result<Health> {
    let (reach, identity) = (world.reach()?, world.identity()?);
    let wait = health::serving(
        &reach,
        &world.spec,
        domain,
        &identity,
        deadline,
        &world.cancel,
    );
    Ok(match world.runtime.block_on(wait) {
        Ok(()) => Health::Serving,
        Err(health) => health,
    })
}

fn describe(health: &Health) -> String {
    match health {
        Health::Serving => "SERVING".into(),
        Health::NotServing => "NOT_SERVING".into(),
        Health::Unreachable(cause) => format!("not answering ({cause})"),
    }
}

/// Goes back to the previous release; the error says what was seen, what the service logged, and what runs now.
fn roll_back(world: &World, guest: &Guest, domain: &Name, seen: &str) -> anyhow::Error {
    let logged = match guest.last_log_lines(domain, LOG_LINES) {
        Ok(lines) => format!(
            "its last log lines:\n{}",
            indented(lines.iter().map(String::as_str))
        ),
        Err(error) => format!("its log cannot be read: {error:#}"),
    };
    let now = match guest.roll_back(domain) {
        Ok(RolledBack::To(previous)) => match serving(world, domain, world.patience(SERVING)) {
            Ok(Health::Serving) => {
                let short = previous.short().to_owned();
                match record(world, domain, previous) {
                    Ok(()) => format!("rolled back to the release {short}, which is SERVING"),
                    Err(error) => format!(
                        "rolled back to the release {short}, which is SERVING; not recorded: {error:#}"
                    ),
                }
            }
            _ => format!(
                "rolled back to the release {}, which is also not SERVING",
                previous.short()
            ),
        },
        Ok(RolledBack::Failed(previous)) => {
            format!(
                "rolled back to the release {}, which also fails to start",
                previous.short()
            )
        }
        Ok(RolledBack::Nowhere) => "it was stopped: there is no previous release".to_owned(),
        Err(error) => format!("rolling back failed: {error:#}"),
    };
    anyhow!("{seen}\n{logged}\n{now}")
}
