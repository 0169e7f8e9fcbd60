//! What is done in guests that were reached: bringing a release of their service into use.

use std::time::Duration;

use anyhow::anyhow;

use super::World;
use super::reach::{LOG_LINES, indented};
use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::guest::{Activated, Guest, RolledBack};
use crate::health::{self, Health};
use crate::spec::{Digest, HealthCheck, Name};
use crate::state::Deployed;

/// From a service's start to SERVING, natively.
const SERVING: Duration = Duration::from_secs(10);
/// The same for what speaks another protocol: at its first start it may make its data, as PostgreSQL does.
const LISTENING: Duration = Duration::from_secs(30);
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
            &world.identity,
            GATHER,
            scope,
            &world.cancel,
        )?;
        guest.gather(domain, &world.home.logbook(domain))
    };
    if let Err(error) = gathered() {
        scope.note(format!(
            "what `{domain}` logged last is not kept: {error:#}"
        ));
    }
    Ok(())
}

pub(super) fn push(
    world: &World,
    domain: &Name,
    release: &Digest,
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
    release: &Digest,
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

/// The plan's release is what the files were when it was made; a build in between makes them another's.
fn expect_release(found: &Digest, planned: &Digest, domain: &Name) -> anyhow::Result<()> {
    if found == planned {
        return Ok(());
    }
    Err(anyhow!(
        "the files of `{domain}` changed while `up` ran; run `pspd up` again"
    ))
}

pub(super) fn healthy(
    world: &World,
    domain: &Name,
    release: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("waiting for SERVING");
    let service = world.spec.domains[domain].service.as_ref();
    let deadline = match service.map(|service| &service.health) {
        Some(HealthCheck::Tcp) => world.patience(LISTENING),
        _ => world.patience(SERVING),
    };
    match serving(world, domain, deadline)? {
        Ok(()) => record(world, domain, release.clone()),
        Err(health) if world.cancel.is_cancelled() => {
            Err(Cancelled::during(format_args!("the service was {}", describe(&health))).into())
        }
        Err(health) => {
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

/// A service that does not show its new certificate while it runs is restarted.
pub(super) fn renew(
    world: &World,
    domain: &Name,
    certificate: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("installing the certificate");
    let assembled = world.release(domain)?;
    expect_release(&assembled.certificate.digest(), certificate, domain)?;
    let guest = world.guest(domain)?;
    guest.certify(&assembled)?;
    scope.stage("waiting until the service shows it");
    let (reach, wanted) = (world.reach()?, assembled.certificate.der()?);
    let shown = health::shows(
        &reach,
        &world.spec,
        domain,
        &world.identity,
        &wanted,
        world.patience(SHOWN),
        &world.cancel,
    );
    if !world.runtime.block_on(shown) {
        scope.note(format!(
            "`{domain}` goes on with its old certificate while it runs, and is restarted"
        ));
        guest.restart(domain)?;
    }
    healthy(world, domain, &assembled.digest, scope)
}

fn serving(world: &World, domain: &Name, deadline: Duration) -> anyhow::Result<Result<(), Health>> {
    let reach = world.reach()?;
    let wait = health::serving(
        &reach,
        &world.spec,
        domain,
        &world.identity,
        deadline,
        &world.cancel,
    );
    Ok(world.runtime.block_on(wait))
}

fn describe(health: &Health) -> String {
    match health {
        Health::Serving => "SERVING".into(),
        Health::NotServing => "NOT_SERVING".into(),
        Health::Unreachable(cause) => format!("not answering ({cause})"),
    }
}

/// Goes back to the release before; the error says what was seen, what the service logged, and what runs now.
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
            Ok(Ok(())) => {
                let short = previous.short().to_owned();
                match record(world, domain, previous) {
                    Ok(()) => format!("rolled back to the release {short}, which is SERVING"),
                    Err(error) => format!(
                        "rolled back to the release {short}, which is SERVING; not recorded: {error:#}"
                    ),
                }
            }
            _ => format!(
                "rolled back to the release {}, which is not SERVING either",
                previous.short()
            ),
        },
        Ok(RolledBack::Failed(previous)) => {
            format!(
                "rolled back to the release {}, which does not start either",
                previous.short()
            )
        }
        Ok(RolledBack::Nowhere) => {
            "it was stopped: there is no release before it to go back to".to_owned()
        }
        Err(error) => format!("rolling back failed: {error:#}"),
    };
    anyhow!("{seen}\n{logged}\n{now}")
}
